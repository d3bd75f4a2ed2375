"""Command line of the site agent."""
