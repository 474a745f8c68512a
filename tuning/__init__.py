"""Finds the best settings on this machine. Imports deployments and pipeline; neither knows of it."""
