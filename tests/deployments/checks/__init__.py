"""Tests of deployments/checks/."""
