"""Processor time of a service's processes, by role."""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from deployments.local.machine import leftovers
from harness.roles import REPLICA, role_of


@dataclass(frozen=True, slots=True)
class Used:
    """Processor seconds used until a moment.

    Args:
        by_role: seconds of all processes of a role.
        by_thread: seconds of each thread of the replicas, by process and thread.
    """

    by_role: Counter[str]
    by_thread: Counter[tuple[int, int]]

    @classmethod
    def by_run(cls, run: str) -> Self:
        """Read the processor time that the processes of a run have used so far."""
        used = cls(Counter(), Counter())
        for process in leftovers(run):
            with suppress(psutil.Error, OSError):
                role, times = role_of(process), process.cpu_times()
                used.by_role[role] += times.user + times.system  # type: ignore[assignment]  # seconds are no integers
                if role == REPLICA:
                    used.by_thread.update(_threads_of(process.pid))
        return used

    def cores_since(self, before: "Used", wall_s: float) -> dict[str, float]:
        """Compute the cores in use since an earlier moment, by role."""
        return {role: round((seconds - before.by_role[role]) / wall_s, 2) for role, seconds in self.by_role.items()}

    def busiest_since(self, before: "Used", wall_s: float) -> list[float]:
        """Compute the core shares of the replicas' busiest threads: a share near 1 limits its replica."""
        shares = [(seconds - before.by_thread[thread]) / wall_s for thread, seconds in self.by_thread.items()]
        return [round(share, 2) for share in sorted(shares, reverse=True)[:8]]


def _threads_of(pid: int) -> dict[tuple[int, int], float]:
    """Read the seconds of each thread; before 3.14 Python gives threads no names."""
    used, ticks_per_s = dict[tuple[int, int], float](), os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            used[pid, int(task.name)] = (int(fields[11]) + int(fields[12])) / ticks_per_s
    return used
