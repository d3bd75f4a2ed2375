"""Tables, migrations and repositories of the control plane."""
