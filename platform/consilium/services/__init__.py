"""Use cases that two callers share."""
