"""What every process of a run has open and in memory, by its role."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from deployments.local.machine import leftovers

REPLICA: Final = "replica"
FORKSERVER: Final = "forkserver"
WORKER: Final = "decoder worker"
TRACKER: Final = "resource tracker"
WATCHDOG: Final = "watchdog"
LAUNCHER: Final = "launcher"

DARKROOM: Final = (LAUNCHER, REPLICA, WATCHDOG, FORKSERVER, WORKER, TRACKER)
"""The roles that Darkroom starts itself; the others are Ray's."""

_BY_NAME: Final = {
    "ServeReplica": REPLICA,
    "pt_data_worker": WORKER,
    "haproxy": "haproxy",
    "ServeController": "controller",
    "HAProxyManager": "haproxy manager",
    "ProxyActor": "fallback proxy",
    "gcs_server": "gcs",
    "raylet": "raylet",
    "RuntimeEnvAgent": "runtime env agent",
    "DashboardAgent": "dashboard agent",
    "ray-dashboard-": "dashboard",
}
_BY_COMMAND: Final = {
    "/dashboard/dashboard.py": "dashboard",
    "/log_monitor.py": "log monitor",
    "deployments.local.checked_serve": "serve run",
    "/monitor.py": "autoscaler",
    "multiprocessing.resource_tracker": TRACKER,
    "multiprocessing.forkserver": FORKSERVER,
    "deployments.watchdog_process": WATCHDOG,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment."""

    at_s: float  # since the traffic began
    pid: int
    age_s: float
    role: str
    fds: int
    threads: int
    shared_bytes: int  # Pss_Shmem: a page that n processes map counts 1/n in each
    private_bytes: int  # anonymous memory, resident or swapped out


def take_census(run: str, launcher: int, at_s: float, now_s: float) -> list[Reading]:
    """Reads every process of a run, and its launcher.

    Private memory is the kernel's `Anonymous`, not the unique set size: that one counts a page of the slots as private
    as long as one process only has touched it, so it would jump by up to all slots with every new worker. What a
    worker still shares with the forkserver it was forked from counts in both.

    Args:
        run: the mark that the launcher gives its processes.
        launcher: its pid.
        at_s: what to write into the readings.
        now_s: the wall clock, for the ages.
    """
    processes = [psutil.Process(launcher), *leftovers(run)]
    roles = roles_of(processes)
    readings = (_read(process, roles[process.pid], at_s, now_s) for process in processes if process.pid in roles)
    return [reading for reading in readings if reading]


def roles_of(processes: Iterable[psutil.Process]) -> dict[int, str]:
    """The role of each process by its pid; those that have just ended are left out."""
    found: dict[int, tuple[int, str]] = {}  # parent and role, by pid
    for process in processes:
        try:
            found[process.pid] = (process.ppid(), _role(process.name(), " ".join(process.cmdline())))
        except psutil.Error:
            continue
    return {pid: _among_parents(pid, found) for pid in found}


def _role(name: str, command: str) -> str:
    """By name and command line alone."""
    for part, role in _BY_NAME.items():
        if part in name:
            return role
    if "deployments.local.launcher" in command:
        return LAUNCHER
    for part, role in _BY_COMMAND.items():
        if part in command:
            return role
    return "ray, other" if "ray" in command else "other"


def _among_parents(pid: int, found: Mapping[int, tuple[int, str]]) -> str:
    """The role with regard to the parent's: Ray's dashboard has a forkserver too, and a new worker no name yet."""
    parent, role = found[pid]
    grandparent, parents_role = found.get(parent, (0, ""))
    if "dashboard" in (parents_role, found.get(grandparent, (0, ""))[1]) and role in (FORKSERVER, TRACKER):
        return "dashboard"
    return WORKER if role == parents_role == FORKSERVER else role


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
    """/proc/PID/smaps_rollup in bytes; empty for a process that is ending."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(kilobytes.split()[0]) << 10 for name, _, kilobytes in (line.partition(":") for line in lines)}
