"""The share of the machine that other programs use."""

import time
from contextlib import suppress

import psutil


def busy_with_others(for_s: float) -> float:
    """Measure the share of all cores, 0 to 1, that programs other than this one and its children use.

    Args:
        for_s: how long to look.
    """
    before_s, own_before_s, began_at = _used_s(), _own_s(), time.monotonic()
    time.sleep(for_s)
    used_s = (_used_s() - before_s) - (_own_s() - own_before_s)
    return min(1.0, max(0.0, used_s / ((time.monotonic() - began_at) * (psutil.cpu_count() or 1))))


def _used_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _own_s() -> float:
    used_s, this = 0.0, psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used_s += times.user + times.system
    return used_s
