"""Number of cores that this process may use, also in a container that has only a share of them."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use, by its affinity and the quota of its container.

    A quota is found only where the container has a cgroup namespace of its own, as usual.

    Args:
        cgroup: folder of the container's limits; the kernel has two versions of them.
    """
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no container, or "max"
        quota, period = (cgroup / "cpu.max").read_text().split()
        return _within(cores, int(quota), int(period))
    with suppress(OSError, ValueError):
        quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return _within(cores, int(quota), int(period))
    return cores


def _within(cores: int, quota_us: int, period_us: int) -> int:
    """Return the cores within a quota of processor time in each period; -1 is none."""
    return cores if quota_us <= 0 or period_us <= 0 else max(1, min(cores, math.ceil(quota_us / period_us)))
