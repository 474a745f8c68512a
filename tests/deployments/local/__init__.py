"""Tests of deployments/local/."""
