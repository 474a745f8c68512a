"""Reduction of a file to a smaller one with the same effect."""

import time
from collections.abc import Callable
from typing import Final

_AT_MOST_S: Final = 30.0


def shrunk(data: bytes, is_found: Callable[[bytes], bool]) -> bytes:
    """Remove smaller and smaller ranges of bytes while `is_found`, for 30 s at most."""
    deadline, length = time.monotonic() + _AT_MOST_S, len(data) // 2
    while length:
        at = 0
        while at < len(data) and time.monotonic() < deadline:
            shorter = data[:at] + data[at + length :]
            if is_found(shorter):
                data = shorter
            else:
                at += length
        length //= 2
    return data
