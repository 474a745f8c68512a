"""Tests of deployments/monitoring/."""
