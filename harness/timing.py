"""Timing of work in this process: seconds of each of several runs, and how often it is done in some seconds."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def seconds_of(
    work: Callable[[], object], *, runs: int, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of each run; the median of them, or the least, is the figure.

    Args:
        work: that is timed.
        runs: that count.
        warm_up: runs before them that do not.
        clock: gives seconds; `time.process_time` counts this process alone, whatever else the machine does.
    """
    taken_s = []
    for _ in range(warm_up + runs):
        began_s = clock()
        work()
        taken_s.append(clock() - began_s)
    return taken_s[warm_up:]


def done_per_s(work: Callable[[Item], object], items: Sequence[Item], for_s: float) -> float:
    """Items a second, when one after another is worked on, in turn, until the time is over.

    Raises:
        ValueError: there is none.
    """
    began_s = time.perf_counter()
    for done, item in enumerate(itertools.cycle(items), start=1):
        work(item)
        if (taken_s := time.perf_counter() - began_s) >= for_s:
            return done / taken_s
    raise ValueError("there is nothing to work on")
