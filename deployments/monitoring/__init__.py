"""Measurements of a replica: the last minute, its bottleneck, metrics and traces."""
