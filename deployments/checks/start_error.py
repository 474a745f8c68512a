"""The error of a start that cannot be made."""


class StartError(Exception):
    """Darkroom cannot start, or has failed to; the message says why."""
