"""A program whose processes have a mark in their environment, so that all of them can be found and ended."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

import psutil

from harness.repository import ROOT

_MARK: Final = "DARKROOM_MARK"
_HELPERS_END_WITHIN_S: Final = 2.0
"""Seconds for helper processes, such as multiprocessing's, to notice the end of their program."""

_LOOKED_AGAIN_AFTER_S: Final = 0.05
"""Seconds between two looks for processes: one that is just loading another program has no environment meanwhile."""


class MarkedProgram:
    """A program in a session of its own: Ctrl-C reaches only the process that has started it, which then ends it.

    Args:
        command: command line, run in the repository's folder.
        environment: environment variables, in addition to those of this process.
        sink: file for the program's output.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], sink: IO[bytes]) -> None:
        self._mark = uuid.uuid4().hex
        self.leader = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment, _MARK: self._mark},
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """List the running processes of the program, including indirect children."""
        return with_environment(_MARK, self._mark)

    def end(self, grace_s: float) -> int:
        """Send SIGINT like Ctrl-C, then kill the remaining processes; return their number.

        Args:
            grace_s: seconds between the two.
        """
        if self.leader.poll() is None:
            self.leader.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.leader.wait(grace_s)
        killed = int(self.leader.poll() is None)
        self.leader.kill()
        self.leader.wait()
        return killed + self._end_others()

    def _end_others(self) -> int:
        psutil.wait_procs(self._left(), timeout=_HELPERS_END_WITHIN_S)
        killed = set[psutil.Process]()
        while left := self._left():  # repeated: a process may start another one meanwhile
            for each in left:
                with suppress(psutil.Error):
                    each.kill()
            killed |= set(left)
            psutil.wait_procs(left, timeout=0.2)
        psutil.wait_procs(killed, timeout=_HELPERS_END_WITHIN_S)  # until their new parent has reaped them
        return len(killed)

    def _left(self) -> list[psutil.Process]:
        if not (left := self.processes()):
            time.sleep(_LOOKED_AGAIN_AFTER_S)
            left = self.processes()
        return left


def with_environment(name: str, value: str) -> list[psutil.Process]:
    """List the processes with that value in their environment."""
    return [process for process in psutil.process_iter() if _environment(process).get(name) == value]


def _environment(process: psutil.Process) -> dict[str, str]:
    """Read the environment of a process; empty if it has ended, is a zombie, or belongs to another user."""
    try:
        return process.environ()
    except psutil.Error:
        return {}
