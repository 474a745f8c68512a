"""Shared by tuning, benchmarks and tests: a local service, load for it, photographs, a CPU that imitates a GPU."""
