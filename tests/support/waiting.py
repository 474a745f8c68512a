"""Waiting for an event in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""Longest wait for an event in a test, far above its usual time, also for a busy machine."""

_SHARE_OF_WAIT = 1 / 50
"""Part of the time waited until the next look, so a wait is longer by a fiftieth at most."""


def until(happened: Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Call a function again and again; return its first true answer, or fail after a time.

    A long wait is looked at less often, or the looking would take a core from what is waited for.
    """
    began_at = time.monotonic()
    while not (answer := happened()):
        if (waited_s := time.monotonic() - began_at) > timeout_s:
            raise TimeoutError(f"has not happened within {timeout_s:.0f} s")
        time.sleep(max(0.01, _SHARE_OF_WAIT * waited_s))
    return answer
