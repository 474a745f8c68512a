"""A program whose processes are found by a mark in their environment, so that nothing of it is left behind."""

import os
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

import psutil

from harness.repository import ROOT

_MARK: Final = "DARKROOM_MARK"
_SETTLE_S: Final = 2.0
"""Seconds that helpers of a program have to notice its end, as multiprocessing's do."""


class MarkedProgram:
    """A program in a session of its own: Ctrl-C is for whoever has started it, and then ends it.

    Args:
        command: that starts it, in the repository's folder.
        environment: beside that of this process.
        sink: gets what it prints.
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
        """Processes that the program has started, at whatever remove, and that still run."""
        return with_environment(_MARK, self._mark)

    def end(self, grace_s: float) -> int:
        """Asks it to end as Ctrl-C does, then ends by force what is left; returns how many processes those were.

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
        psutil.wait_procs(self.processes(), timeout=_SETTLE_S)
        killed = set[psutil.Process]()
        while left := self.processes():  # again and again: one of them may start another meanwhile
            for each in left:
                with suppress(psutil.Error):
                    each.kill()
            killed |= set(left)
            psutil.wait_procs(left, timeout=0.2)
        psutil.wait_procs(killed, timeout=_SETTLE_S)  # until their new parent has asked how they ended
        return len(killed)


def with_environment(name: str, value: str) -> list[psutil.Process]:
    """The processes with that value in their environment."""
    return [process for process in psutil.process_iter() if _environment(process).get(name) == value]


def _environment(process: psutil.Process) -> dict[str, str]:
    """Environment of a process; empty for one that has gone, is a zombie, or belongs to another user."""
    try:
        return process.environ()
    except psutil.Error:
        return {}
