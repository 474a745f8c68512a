"""Measurements of a whole service: each is a command, and writes its findings to `results/`."""
