"""Finds the best settings on this machine. Imports deployments, harness and pipeline; none imports it."""
