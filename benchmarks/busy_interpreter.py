"""A thread that holds the interpreter lock for a share of the time, as a replica's event loop does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TURN_S: Final = 0.01


@contextmanager
def busy(share: float) -> Iterator[None]:
    """Run another thread during the block that computes in Python for that share of the time."""
    over = threading.Event()

    def work() -> None:
        while share and not over.wait(_TURN_S * (1 - share)):
            until = time.perf_counter() + _TURN_S * share
            while time.perf_counter() < until:
                pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
