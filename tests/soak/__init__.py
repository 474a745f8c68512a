"""The soak: mixed traffic while faults are injected, `make soak`; and the tests of what it counts and judges."""
