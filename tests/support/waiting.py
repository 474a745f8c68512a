"""Waiting for an event in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""Longest wait for an event in a test, far above its usual time, also for a busy machine."""


def until(happened: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Call a function again and again; return its first true answer, or fail after a time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"has not happened within {timeout_s:.0f} s")
        time.sleep(0.01)
    return answer
