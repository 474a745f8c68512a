"""The soak, `make soak`: mixed traffic while faults are injected; and the tests of its counts and its verdict."""
