"""The suite: real workers, real Ray Serve on loopback, real photographs."""
