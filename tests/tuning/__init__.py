"""The parts of `darkroom tune`."""
