"""Faults on purpose: what one image, one client or one process does must not reach another."""
