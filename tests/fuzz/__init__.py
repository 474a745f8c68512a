"""Fuzzing of every native decoder that a client's bytes reach, in child processes whose memory malloc checks."""
