"""Tests of several applications in one service, and of access to one of them: API keys, and origins of web pages."""
