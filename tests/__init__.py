"""The test suite, with real workers, real Ray Serve on loopback, and real photographs."""
