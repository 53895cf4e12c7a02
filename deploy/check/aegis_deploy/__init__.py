"""Holds deploy/ against what the services are: their configuration, ports and calls."""
