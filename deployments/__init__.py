"""The outer side of Darkroom: Ray Serve and HTTP."""
