"""A thread that holds the interpreter lock for a share of the time, as a replica's event loop does."""

import threading
import time
from contextlib import AbstractContextManager
from typing import Final

from harness.background import in_background

_CYCLE_S: Final = 0.01


def busy(share: float) -> AbstractContextManager[None]:
    """Run another thread during the block that computes in Python for that share of the time."""

    def compute(over: threading.Event) -> None:
        while share and not over.wait(_CYCLE_S * (1 - share)):
            until = time.perf_counter() + _CYCLE_S * share
            while time.perf_counter() < until:
                pass

    return in_background(compute)
