"""One command that starts a whole consortium on one machine."""
