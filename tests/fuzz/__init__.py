"""Mutated files for every native decoder that a client's bytes reach, in child processes that malloc checks."""
