"""Timing of work on the GPU by CUDA events."""

import statistics
from collections.abc import Callable

import torch


def median_ms(work: Callable[[], object], *, runs: int = 15, warm: int = 3, inner: int = 1) -> float:
    """Measure the median milliseconds of a call.

    Args:
        work: queues something on the current stream.
        runs: number of measured runs.
        warm: number of calls before them.
        inner: calls between two events; short work needs several.
    """
    for _ in range(warm):
        work()
    torch.cuda.synchronize()
    return statistics.median(_ms(work, inner) for _ in range(runs))


def _ms(work: Callable[[], object], inner: int) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(inner):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / inner
