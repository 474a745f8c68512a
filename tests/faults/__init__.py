"""Tests with deliberate faults: one image, client or process must not affect another."""
