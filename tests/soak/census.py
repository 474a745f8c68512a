"""Readings of every process of a run: files, threads and memory, by role."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployments.local.machine import leftovers
from harness.roles import roles_of


@dataclass(frozen=True, slots=True)
class Reading:
    """Figures of one process at one moment."""

    at_s: float  # since the traffic began
    pid: int
    age_s: float
    role: str
    fds: int
    threads: int
    shared_bytes: int  # Pss_Shmem: a page that n processes map counts 1/n in each
    private_bytes: int  # anonymous memory, resident or swapped out


def take_census(run: str, launcher: int, at_s: float, now_s: float) -> list[Reading]:
    """Read every process of a run, and its launcher.

    Private memory is the kernel's `Anonymous`, not the unique set size. The latter counts a page of the slots as
    private while only one process has touched it, so it would jump by up to all slots with every new worker. Memory
    that a worker still shares with its forkserver counts in both.

    Args:
        run: the mark that the launcher gives its processes.
        launcher: pid of the launcher.
        at_s: time to write into the readings.
        now_s: wall-clock time, from which the ages follow.
    """
    processes = [psutil.Process(launcher), *leftovers(run)]
    roles = roles_of(processes)
    readings = (_read(process, roles[process.pid], at_s, now_s) for process in processes if process.pid in roles)
    return [reading for reading in readings if reading]


def _read(process: psutil.Process, role: str, at_s: float, now_s: float) -> Reading | None:
    try:
        memory = _rollup(process.pid)
        return Reading(
            at_s=at_s,
            pid=process.pid,
            age_s=now_s - process.create_time(),
            role=role,
            fds=len(os.listdir(f"/proc/{process.pid}/fd")),
            threads=process.num_threads(),
            shared_bytes=memory["Pss_Shmem"],
            private_bytes=memory["Anonymous"] + memory["Swap"],
        )
    except (OSError, KeyError, psutil.Error):  # it has just ended
        return None


def _rollup(pid: int) -> dict[str, int]:
    """Return /proc/PID/smaps_rollup in bytes; empty for a process that is ending."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(kilobytes.split()[0]) << 10 for name, _, kilobytes in (line.partition(":") for line in lines)}
