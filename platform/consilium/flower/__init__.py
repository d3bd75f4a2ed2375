"""The one place of the platform that imports flwr."""
