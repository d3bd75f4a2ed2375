"""The command line of coordinator and researcher."""
