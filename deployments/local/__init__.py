"""A service on this machine: its start, its processes, and their end."""
