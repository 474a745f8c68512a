"""The edge of Darkroom: Ray Serve and HTTP."""
