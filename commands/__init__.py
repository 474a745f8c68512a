"""The command line: what a person types. Imports deployments and pipeline; neither knows of it."""
