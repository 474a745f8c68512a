"""Measurements of a whole service: each is a command, and writes what it found to `results/`."""
