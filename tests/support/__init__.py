"""Helpers of the tests: services, files, decoders and devices to test with, and waiting."""
