"""Measures Darkroom on a machine with a GPU by one command: `python -m benchmarks.gpu`, or `make gpu`."""
