"""Tests of deployments/http/."""
