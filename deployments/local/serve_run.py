"""The processes of one start: `serve run`, the Ray that it starts, Serve and the replicas."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import psutil

from deployments.local.console import Printed, complain
from deployments.local.machine import is_alive, leftovers
from deployments.local.serve_api import ServeApi
from deployments.local.stop_requests import StopRequests
from deployments.local.waiting_replicas import WaitingReplicas

POLL_INTERVAL_S: Final = 0.2

REPLICAS_TIMEOUT_S: Final = 7.5
"""Limit for replicas to end; serve.env sets how long they drain: with 1 s, all of them have ended after 2 s."""

TERMINATE_TIMEOUT_S: Final = 1.0
KILL_TIMEOUT_S: Final = 30.0
"""Limit for processes to end after SIGKILL, far above the kernel's need even on a busy machine."""

REPLICA_PROCESS: Final = "ServeReplica"


class ServeRun:
    """A `serve run` with all processes that it starts.

    Args:
        config: configuration file for Serve.
        environment: environment variables of all its processes.
        printed: file for their output.
    """

    def __init__(self, config: Path, environment: Mapping[str, str], printed: Path) -> None:
        self.run = environment["DARKROOM_RUN"]
        # A session of its own, so that Ctrl-C reaches only the launcher. `local`: never join a running cluster.
        command = [sys.executable, "-m", "deployments.local.checked_serve", "run", "--address", "local", str(config)]
        self.process = subprocess.Popen(  # noqa: S603  a module of Darkroom's
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,  # logs and sockets are for this user alone
        )
        assert self.process.stdout is not None  # noqa: S101  for mypy
        waiting = WaitingReplicas(ServeApi(self.run, environment).applications)
        self._printed = Printed(self.process.stdout, printed, waiting)
        self._printed.start()

    @property
    def failure(self) -> str:
        """Sentence for a `serve run` that has ended by itself; its status is 0 even after errors."""
        return f"`serve run` has ended by itself, with status {self.process.returncode}"

    @property
    def failure_status(self) -> int:
        """Exit status for this failure; 1 if `serve run` is still running or ended with 0."""
        status = self.process.poll()
        return 128 - status if status is not None and status < 0 else status or 1

    def end(self, stop: StopRequests, *, in_order: bool = True) -> None:
        """Stop the replicas cleanly, then kill all other processes; afterwards none of them is left.

        The others belong to Ray: they have nothing to save, and would take seconds to end cleanly.

        Args:
            stop: another request to stop ends the waiting.
            in_order: False if Ray has failed, so that replicas cannot be told to stop.
        """
        self._printed.mute()
        serving = _families(leftovers(self.run))
        if in_order and self.process.poll() is None:
            self._stop_replicas(serving, stop)
        for ask in (psutil.Process.terminate, psutil.Process.kill):
            if in_order and (named := _names(_alive(serving))):
                complain(f"darkroom: {ask.__name__} what did not end by itself: {', '.join(named)}")
            _end_all(self.run, ask, TERMINATE_TIMEOUT_S)
        deadline = time.monotonic() + KILL_TIMEOUT_S
        # Ray replaces processes that end, and on a busy machine a process takes time to end.
        while (left := leftovers(self.run)) and time.monotonic() < deadline:
            _end_all(self.run, psutil.Process.kill, TERMINATE_TIMEOUT_S)
        if left:
            complain(f"darkroom: SIGKILL does not end {', '.join(_names(left))}; the kernel may know why")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_TIMEOUT_S)
        self._printed.join(TERMINATE_TIMEOUT_S)

    def _stop_replicas(self, serving: Collection[psutil.Process], stop: StopRequests) -> None:
        requests, deadline = stop.count, time.monotonic() + REPLICAS_TIMEOUT_S
        self.process.send_signal(signal.SIGCONT)  # a stopped process would not handle SIGINT
        self.process.send_signal(signal.SIGINT)
        while _alive(serving) and stop.count == requests and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)


def _families(processes: Collection[psutil.Process]) -> list[psutil.Process]:
    """List the replicas among these processes, with all their child processes."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if REPLICA_PROCESS in process.name():
                found += [process, *process.children(recursive=True)]
    return found


def _alive(processes: Collection[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if is_alive(process)]


def _names(processes: Collection[psutil.Process]) -> list[str]:
    names = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(f"{process.name()} ({process.pid})")
    return names


def _end_all(run: str, ask: Callable[[psutil.Process], None], timeout_s: float) -> None:
    """Send a signal to every process of a run, and wait up to `timeout_s` for their end."""
    for process in leftovers(run):
        with contextlib.suppress(psutil.NoSuchProcess):
            ask(process)
    deadline = time.monotonic() + timeout_s
    while leftovers(run) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
