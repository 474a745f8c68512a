"""Timing of work in this process: seconds of each of several runs, and runs a second."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")


def seconds_of(
    work: Callable[[], object], *, runs: int, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Measure the seconds of each run; callers report their median or minimum.

    Args:
        work: function to be timed.
        runs: number of measured runs.
        warm_up: number of runs before them that are not measured.
        clock: returns seconds; `time.process_time` counts this process alone, `time.thread_time` this thread.
    """
    taken_s = []
    for _ in range(warm_up + runs):
        began_s = clock()
        work()
        taken_s.append(clock() - began_s)
    return taken_s[warm_up:]


def seconds_of_one_core(work: Callable[[], object], *, runs: int) -> list[float]:
    """Measure the processor seconds of each run in this thread, after one that does not count.

    Torch computes with one thread meanwhile, as in a worker: its further threads spin, and take the time of others.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return seconds_of(work, runs=runs, clock=time.thread_time)
    finally:
        torch.set_num_threads(threads)


def done_per_s(work: Callable[[Item], object], items: Sequence[Item], for_s: float) -> float:
    """Measure items a second: processes items one after another, in turn, until the time is over.

    Raises:
        ValueError: `items` is empty.
    """
    began_s = time.perf_counter()
    for done, item in enumerate(itertools.cycle(items), start=1):
        work(item)
        if (taken_s := time.perf_counter() - began_s) >= for_s:
            return done / taken_s
    raise ValueError("there is nothing to work on")
