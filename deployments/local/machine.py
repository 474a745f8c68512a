"""Finds processes on this machine: the holder of a port, and processes that earlier runs of Darkroom left behind.

Every process of a run has `DARKROOM_RUN=<launcher's pid>-<launcher's start>` in its environment, from `serve run` down
to a decode worker. This tells runs apart, and living ones from dead ones, and finds a process even after its parents
have ended.
"""

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

TAKEN: Final = "taken"


def start_ticks(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; together with its pid it is unique.

    psutil's `create_time` is wall-clock time, which changes when the clock is corrected.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def name_run() -> str:
    """Return the name of a run that this process launches, the value of DARKROOM_RUN."""
    return f"{os.getpid()}-{start_ticks(os.getpid())}"


def launcher_of(run: str) -> int | None:
    """Return the pid of a run's launcher if the launcher is alive, else None."""
    pid, _, ticks = run.partition("-")
    try:
        return int(pid) if start_ticks(int(pid)) == ticks else None
    except (OSError, ValueError):
        return None


def run_of(process: psutil.Process) -> str | None:
    """Return the run of a process; None if it has none, is a zombie, or belongs to another user or container."""
    try:
        # In a container the pid in the name means another process, so the run would look dead.
        if os.readlink(f"/proc/{process.pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return None
        return process.environ().get("DARKROOM_RUN") or None
    except (OSError, psutil.Error):
        return None


def leftovers(run: str | None = None) -> list[psutil.Process]:
    """Return the processes of one run or, without a name, of all runs whose launcher is dead."""
    found = ((process, run_of(process)) for process in psutil.process_iter() if process.pid != os.getpid())
    if run is not None:
        return [process for process, name in found if name == run]
    return [process for process, name in found if name and launcher_of(name) is None]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process is running; False for a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def obstacles(ports: Iterable[tuple[str, int]]) -> str | None:
    """Return the obstacles to a start, one line each, with a command that removes them; None if there are none.

    Processes of a dead run are obstacles even without a port: they occupy a GPU's memory, or a core.

    Args:
        ports: (host, port) of each port that the run needs.
    """
    lines, culprits = [], []
    for host, port in ports:
        if (reason := refusal(host, port)) is None:
            continue
        found = holders(port)
        owner = ", ".join(map(describe, found)) or "no process that this user may see"
        lines.append(f"port {port} on {host}: {reason}{f': {owner}' if reason == TAKEN else ''}")
        culprits += found
    orphans = [process for process in leftovers() if process not in culprits]
    lines += map(describe, orphans)
    if pids := to_end(culprits + orphans):
        lines.append(f"To end what is in the way: kill {' '.join(map(str, pids))}")
    return "\n".join(lines) or None


def refusal(host: str, port: int) -> str | None:
    """Return the reason why a port cannot be listened on, or None.

    Tries to listen without SO_REUSEPORT, so that the kernel refuses a port with any listener. With that option, which
    HAProxy uses, a new listener and an orphaned one would share the port, and each would get some connections.
    """
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return TAKEN if error.errno == errno.EADDRINUSE else error.strerror
    return None


def holders(port: int) -> list[psutil.Process]:
    """Return the processes that listen on a TCP port, as far as this user may see them."""
    listeners = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    pids = {listener.pid for listener in listeners if listener.laddr and listener.laddr.port == port}
    return [process for process in psutil.process_iter() if process.pid in pids]


def describe(process: psutil.Process) -> str:
    """Describe a process by its relation to Darkroom, its pid, and its command line, shortened."""
    try:
        # Joined and split again: a process that has set its title has blanks in place of its arguments.
        command = " ".join(" ".join(process.cmdline()).split()) or process.name()
    except psutil.Error:
        command = "command not visible"
    run = run_of(process)
    if run is None:
        # The path of Ray's HAProxy configuration: the only sign that a plain `serve run` has started the process.
        origin = "HAProxy of some `serve run`, " if "/haproxy-serve/" in command else ""
    elif launcher := launcher_of(run):
        origin = f"part of the Darkroom running as pid {launcher}, "
    else:
        origin = "left behind by an earlier Darkroom, "
    return f"{origin}pid {process.pid} ({command[:120]})"


def to_end(processes: Iterable[psutil.Process]) -> list[int]:
    """Return the pids to kill so that these processes end: for a living run its launcher, which stops it cleanly."""
    return sorted({launcher_of(run_of(process) or "") or process.pid for process in processes})
