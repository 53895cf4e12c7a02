"""Drives an unmodified garak: one warm process, one forked child per job, structured events, named reasons."""
