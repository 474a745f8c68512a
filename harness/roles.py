"""Roles of the processes of a run, derived from their names, command lines and parents."""

from collections.abc import Iterable, Mapping
from typing import Final

import psutil

from deployments.local.machine import leftovers

REPLICA: Final = "replica"
FORKSERVER: Final = "forkserver"
WORKER: Final = "decoder worker"
TRACKER: Final = "resource tracker"
WATCHDOG: Final = "watchdog"
LAUNCHER: Final = "launcher"
HAPROXY: Final = "haproxy"
OTHER: Final = "other"

DARKROOM: Final = (LAUNCHER, REPLICA, WATCHDOG, FORKSERVER, WORKER, TRACKER)
"""The roles that Darkroom starts itself; the others are Ray's."""

_BY_NAME: Final = {
    "ServeReplica": REPLICA,
    "pt_data_worker": WORKER,
    "haproxy": HAPROXY,
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


def with_role(run: str, role: str) -> list[psutil.Process]:
    """List the processes of a run that have this role, the oldest first."""
    found = leftovers(run)
    roles = roles_of(found)
    return sorted((process for process in found if roles.get(process.pid) == role), key=psutil.Process.create_time)


def role_of(process: psutil.Process) -> str:
    """Return the role of one process; "other" if it has just ended."""
    try:
        family = [process, *process.parents()[:2]]
    except psutil.Error:
        return OTHER
    return roles_of(family).get(process.pid, OTHER)


def roles_of(processes: Iterable[psutil.Process]) -> dict[int, str]:
    """Return the role of each process by its pid, without processes that have just ended."""
    found: dict[int, tuple[int, str]] = {}  # parent and role, by pid
    for process in processes:
        try:
            found[process.pid] = (process.ppid(), _role(process.name(), " ".join(process.cmdline())))
        except psutil.Error:
            continue
    return {pid: _among_parents(pid, found) for pid in found}


def _role(name: str, command: str) -> str:
    """Derive the role from name and command line alone."""
    for part, role in _BY_NAME.items():
        if part in name:
            return role
    if "deployments.local.launcher" in command:
        return LAUNCHER
    for part, role in _BY_COMMAND.items():
        if part in command:
            return role
    return "ray, other" if "ray" in command else OTHER


def _among_parents(pid: int, found: Mapping[int, tuple[int, str]]) -> str:
    """Derive the role with the parent's: Ray's dashboard has a forkserver too, and a new worker has no name yet."""
    parent, role = found[pid]
    grandparent, parents_role = found.get(parent, (0, ""))
    if "dashboard" in (parents_role, found.get(grandparent, (0, ""))[1]) and role in (FORKSERVER, TRACKER):
        return "dashboard"
    return WORKER if role == parents_role == FORKSERVER else role
