"""Tests of the run on a GPU, `benchmarks.gpu`: its steps, its results, and its parts on a CPU that poses as a GPU."""
