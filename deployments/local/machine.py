"""What else is on this machine: who holds a port, and what earlier runs of Darkroom have left behind.

Every process of a run carries `DARKROOM_RUN=<launcher's pid>-<launcher's start>` in its environment, from `serve run`
down to a DataLoader worker. So a run is told from every other, a living one from a dead one, and a process is found
also after its parents are gone.
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
    """Return when a process started, in clock ticks since boot: with its pid, a name that is never given twice.

    psutil's `create_time` is wall-clock time, which a correction of the clock moves.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def name_run() -> str:
    """Return the value of DARKROOM_RUN for a run that this process launches."""
    return f"{os.getpid()}-{start_ticks(os.getpid())}"


def launcher_of(run: str) -> int | None:
    """Return the pid of a run's launcher while it lives, else None."""
    pid, _, ticks = run.partition("-")
    try:
        return int(pid) if start_ticks(int(pid)) == ticks else None
    except (OSError, ValueError):
        return None


def run_of(process: psutil.Process) -> str | None:
    """Return the run a process belongs to; None for others, for zombies, and for those of other users or containers."""
    try:
        # In a container the pid in the value counts from another start, so its run would pass for a dead one.
        if os.readlink(f"/proc/{process.pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return None
        return process.environ().get("DARKROOM_RUN") or None
    except (OSError, psutil.Error):
        return None


def leftovers(run: str | None = None) -> list[psutil.Process]:
    """Return the processes of one run or, without a name, of every run whose launcher is dead."""
    found = ((process, run_of(process)) for process in psutil.process_iter() if process.pid != os.getpid())
    if run is not None:
        return [process for process, name in found if name == run]
    return [process for process, name in found if name and launcher_of(name) is None]


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that nobody has asked for its status does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def obstacles(ports: Iterable[tuple[str, int]]) -> str | None:
    """Return what keeps a run from starting, a line each, and the command that ends it; None where nothing does.

    What a dead run has left is in the way also where it holds no port: it keeps a GPU's memory, or a core.

    Args:
        ports: (host, port) of all that a run will listen on.
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
    """Return why nothing can listen here, or None.

    Listening is tried without SO_REUSEPORT, so that the kernel refuses it beside any listener. With it, as HAProxy does
    it, a new listener and an orphan share the port, and each gets some of the connections.
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
    """Return what a process has to do with Darkroom, its pid and its command line, shortened."""
    try:
        # Joined and split again: a process that has set its title shows blanks where its arguments were.
        command = " ".join(" ".join(process.cmdline()).split()) or process.name()
    except psutil.Error:
        command = "command not visible"
    run = run_of(process)
    if run is None:
        # Ray writes HAProxy's configuration under this name; a plain `serve run` leaves no other trace in it.
        origin = "HAProxy of some `serve run`, " if "/haproxy-serve/" in command else ""
    elif launcher := launcher_of(run):
        origin = f"part of the Darkroom running as pid {launcher}, "
    else:
        origin = "left behind by an earlier Darkroom, "
    return f"{origin}pid {process.pid} ({command[:120]})"


def to_end(processes: Iterable[psutil.Process]) -> list[int]:
    """Return whom to kill so that all of these end: for a run that lives its launcher, which stops it in order."""
    return sorted({launcher_of(run_of(process) or "") or process.pid for process in processes})
