"""Tests of access control: API keys, and origins of web pages."""
