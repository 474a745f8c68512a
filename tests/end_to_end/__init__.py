"""Tests of a whole service, started as its users start it."""
