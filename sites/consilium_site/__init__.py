"""The hospital: the only place that opens a scan."""
