"""Keeps a watchdog beside a replica, and tells it that the event loop runs."""

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.process_state import STOPPED, state_of

logger = logging.getLogger(__name__)

HUNG_AFTER_S: Final = 5.0
"""Nobody gets an answer meanwhile."""

_BEAT_S: Final = 0.5
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
        self._process = self._started()

    async def run(self) -> None:
        """Tells it again and again that the event loop runs, until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_BEAT_S)

    def beat(self) -> None:
        """Tells it once; another takes its place where it has ended or was itself stopped."""
        if state_of(self._process.pid) == STOPPED:
            self._process.kill()
        try:
            with suppress(BlockingIOError):  # full: it has not looked for hours
                os.write(_input_of(self._process), b".")
        except BrokenPipeError:
            logger.warning("the watchdog %s has ended; starting another", self._process.pid)
            self.close()
            self._process = self._started()

    def close(self) -> None:
        """Ends it. May be called again."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _PROGRAM,
            str(_ROOT),
            "replica",
            str(os.getpid()),
            str(self._hung_after_s),
        ]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)  # noqa: S603  the project's own
        os.set_blocking(_input_of(process), False)
        return process


def _input_of(process: subprocess.Popen[bytes]) -> int:
    if process.stdin is None:
        raise RuntimeError("the watchdog was started without a pipe")
    return process.stdin.fileno()
