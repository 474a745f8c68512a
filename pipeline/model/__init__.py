"""Stage 2: a device turns pixels into classes."""
