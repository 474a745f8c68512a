"""Keeps a watchdog beside a replica, and tells it that the event loop runs."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.decode.process_state import STOPPED_STATE, state_of

logger = logging.getLogger(__name__)

HUNG_AFTER_S: Final = 5.0
"""Nobody gets an answer meanwhile."""

_BEAT_PERIOD_S: Final = 0.5
_ROOT: Final = Path(__file__).parent.parent

_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv[1]); from deployments.watchdog_process import main; main(*sys.argv[2:])"
)
"""Without what `site` and the environment add to the path: nothing else has to be looked through."""


class Watchdog:
    """A process that ends this one where it is stopped or its event loop hangs (`watchdog_process.py`).

    A constructed one sees stops alone; `run` adds the event loop. Without it, Serve's health checks do the same later.

    Args:
        hung_after_s: silence of the event loop after which nobody waits for it any more.
    """

    def __init__(self, hung_after_s: float = HUNG_AFTER_S) -> None:
        self._hung_after_s = hung_after_s
        self._start()

    async def run(self) -> None:
        """Tells it again and again that the event loop runs, until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_PERIOD_S)

    def beat(self) -> None:
        """Tells it once; another takes its place where it has ended or was itself stopped."""
        if state_of(self._process.pid) == STOPPED_STATE:
            self._process.kill()
        try:
            with suppress(BlockingIOError):  # full: it has not looked for hours
                self._ours.send(b".")
        except OSError:
            logger.warning("the watchdog %s has ended; starting another", self._process.pid)
            self.close()
            self._start()

    def close(self) -> None:
        """Ends it. May be called again."""
        self._ours.close()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        about = ["replica", str(os.getpid()), str(self._hung_after_s)]
        command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_ROOT), *about]
        with theirs:
            self._process = subprocess.Popen(command, stdin=theirs.fileno())  # noqa: S603  the project's own
