"""Runs a watchdog process beside a replica, and signals to it that the event loop runs."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.decode.process_state import STOPPED_STATE, state_of

logger = logging.getLogger(__name__)

HUNG_AFTER_S: Final = 5.0
"""Silence of the event loop after which the replica is killed: it answers no request meanwhile."""

_BEAT_PERIOD_S: Final = 0.5
_ROOT: Final = Path(__file__).parent.parent

_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv[1]); from deployments.watchdog_process import main; main(*sys.argv[2:])"
)
"""Program of the watchdog process. It runs without `site` and the environment's paths, so it starts quickly."""


class Watchdog:
    """A process that kills this one if it is stopped (SIGSTOP) or its event loop hangs (`watchdog_process.py`).

    After construction it notices only stops; `run` adds the event loop. Without a watchdog, Serve's health checks do
    the same, but later.

    Args:
        hung_after_s: seconds of silence after which the event loop counts as hung.
        log: file to which the watchdog appends why it kills this process; standard error if None. In a worker of Ray
            standard error is a pipe that the worker itself empties, and a stopped worker does not. Such a worker also
            does not end while another process holds its standard output or error.
    """

    def __init__(self, hung_after_s: float = HUNG_AFTER_S, log: Path | None = None) -> None:
        self._hung_after_s, self._log = hung_after_s, log
        self._start()

    async def run(self) -> None:
        """Signal repeatedly that the event loop runs, until cancelled."""
        told = False
        while True:
            try:
                self.beat()
                told = False
            except OSError as error:  # no process or file left; the next beat tries again
                if not told:
                    logger.warning("no watchdog can be started for now: %s", error)
                told = True
            await asyncio.sleep(_BEAT_PERIOD_S)

    def beat(self) -> None:
        """Signal once that the event loop runs; replaces a watchdog process that has ended or was stopped."""
        if state_of(self._process.pid) == STOPPED_STATE:
            self._process.kill()
        try:
            with suppress(BlockingIOError):  # the socket is full: unread for hours
                self._ours.send(b".")
        except OSError:
            if self._process.returncode is None:  # else the last attempt has told
                logger.warning("the watchdog %s has ended; starting another", self._process.pid)
            self.close()
            self._start()

    def close(self) -> None:
        """End the watchdog process. May be called again."""
        self._ours.close()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        about = ["replica", str(os.getpid()), str(self._hung_after_s)]
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_ROOT), *about]
        with theirs, self._opened_log() as log:
            self._process = subprocess.Popen(  # noqa: S603  the project's own
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=log
            )

    def _opened_log(self) -> AbstractContextManager[BinaryIO | int | None]:
        if not self._log:
            return nullcontext()
        try:
            return self._log.open("ab")
        except OSError:  # its folder is gone: watching is worth more than the message
            return nullcontext(subprocess.DEVNULL)
