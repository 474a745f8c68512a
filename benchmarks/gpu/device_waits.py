"""Measures the processor time of a thread that waits for the GPU with a spinning or a blocking event."""

import statistics
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import torch

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting

_CYCLES_PER_MS: Final = 1_700_000
_WAITS_MS: Final = (5, 20)


class Wait(NamedTuple):
    """Costs of a wait for the GPU: share of a core used, and delay after the GPU was done."""

    cpu_share: float
    late_us: float


def costs(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure both kinds of events."""
    for blocking in (False, True):
        turns = 2 if setting.dry else 6
        waits = [wait(ms, blocking=blocking) for ms in _WAITS_MS for _ in range(turns)]
        share = statistics.median(each.cpu_share for each in waits)
        late_us = statistics.median(each.late_us for each in waits)
        kind = "blocks" if blocking else "spins"
        yield Figure(
            f"waiting by an event that {kind}",
            share,
            "of a core",
            note=f"goes on {late_us:.3g} us after the GPU is done",
            details={"blocking": blocking, "late_us": late_us},
        )


def wait(ms: int, *, blocking: bool) -> Wait:
    """Keep the GPU busy for about `ms`, and wait for it."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True, blocking=blocking)
    torch.cuda.synchronize()
    began_at = time.perf_counter()
    begin.record()
    torch.cuda._sleep(ms * _CYCLES_PER_MS)
    end.record()
    cpu_s = time.thread_time()
    end.synchronize()
    cpu_s = time.thread_time() - cpu_s
    took_s = time.perf_counter() - began_at
    return Wait(cpu_s / took_s, 1e6 * took_s - 1e3 * begin.elapsed_time(end))
