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
"""Replicas answer what they have, for as long as serve.env says; with 1 s there all of them are gone after 2."""

TERMINATE_TIMEOUT_S: Final = 1.0
KILL_TIMEOUT_S: Final = 30.0
"""Far above what the kernel needs to end processes, on a machine that is busy with something else."""

REPLICA_PROCESS: Final = "ServeReplica"


class ServeRun:
    """A `serve run` with all that it starts.

    Args:
        config: of Serve's.
        environment: of all its processes.
        printed: the file that keeps what they print.
    """

    def __init__(self, config: Path, environment: Mapping[str, str], printed: Path) -> None:
        self.run = environment["DARKROOM_RUN"]
        # A session of its own: Ctrl-C reaches the launcher alone. `local`: never join a cluster that runs here.
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
        """Say how it has ended by itself, which it does with status 0 after errors too."""
        return f"`serve run` has ended by itself, with status {self.process.returncode}"

    @property
    def failure_status(self) -> int:
        """Return the exit status for that; 1 where it runs on."""
        status = self.process.poll()
        return 128 - status if status is not None and status < 0 else status or 1

    def end(self, stop: StopRequests, *, in_order: bool = True) -> None:
        """Stop the replicas in order, then all the rest by force; afterwards none of the processes is left.

        The rest is Ray's: it keeps nothing, and takes seconds to end in order.

        Args:
            stop: another request ends the waiting.
            in_order: false where Ray has failed, and nobody is there to pass an order on.
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
        # Ray starts processes for others that end; and on a busy machine the end of one takes its time.
        while (left := leftovers(self.run)) and time.monotonic() < deadline:
            _end_all(self.run, psutil.Process.kill, TERMINATE_TIMEOUT_S)
        if left:
            complain(f"darkroom: SIGKILL does not end {', '.join(_names(left))}; the kernel may know why")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_TIMEOUT_S)
        self._printed.join(TERMINATE_TIMEOUT_S)

    def _stop_replicas(self, serving: Collection[psutil.Process], stop: StopRequests) -> None:
        requests, deadline = stop.count, time.monotonic() + REPLICAS_TIMEOUT_S
        self.process.send_signal(signal.SIGCONT)  # one that is stopped would not hear the other
        self.process.send_signal(signal.SIGINT)
        while _alive(serving) and stop.count == requests and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)


def _families(processes: Collection[psutil.Process]) -> list[psutil.Process]:
    """The replicas among these, and all that they have started."""
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
    """Send a signal to every process of a run and wait a moment for their end."""
    for process in leftovers(run):
        with contextlib.suppress(psutil.NoSuchProcess):
            ask(process)
    deadline = time.monotonic() + timeout_s
    while leftovers(run) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
