"""The error of a start that fails."""


class StartError(Exception):
    """Darkroom cannot start, or has failed to start; the message says why."""
