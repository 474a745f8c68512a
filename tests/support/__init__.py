"""Helpers of the tests: services, files, decoders, devices, and waiting."""
