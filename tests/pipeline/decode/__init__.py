"""Tests of pipeline/decode/."""
