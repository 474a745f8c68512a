"""Checks of a serve_config.yaml before anything is started."""
