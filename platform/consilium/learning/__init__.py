"""Learning without I/O: the two state machines of a round, averaging, and the model registry."""
