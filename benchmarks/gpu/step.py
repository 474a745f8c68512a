"""One step of a run: a command in a process of its own, with a limit, that leaves nothing behind."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from harness.repository import ROOT

GRACE_S: Final = 12.0
"""Seconds between the request to end and the kill: a service takes up to ten to stop in order."""

_SETTLE_S: Final = 2.0
"""Seconds that helpers of a command have to notice its end, as multiprocessing's do."""

_MARK: Final = "DARKROOM_GPU_STEP"
"""In the environment of every process that a step starts, at whatever remove: that is how they are found."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a step ended.

    Args:
        status: exit status of its command; minus the number of a signal that ended it.
        seconds: how long it ran.
        cut_off: it was asked to end because its time was up.
        killed: processes that had to be ended by force.
    """

    status: int
    seconds: float
    cut_off: bool
    killed: int

    @property
    def failed(self) -> bool:
        """Whether something is missing from what the step was to show."""
        return self.cut_off or self.status != 0


def run_step(
    command: Sequence[str], limit_s: float, log: Path, environment: Mapping[str, str], *, grace_s: float = GRACE_S
) -> Ended:
    """Runs a command for at most `limit_s`; afterwards no process that it has started is left.

    A command whose time is up gets SIGINT, so that it can stop what it has started, and is killed `grace_s` later.
    """
    mark, began_at = uuid.uuid4().hex, time.monotonic()
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment, _MARK: mark},
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the runner, which ends the step
        )
    cut_off = False
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        cut_off = True
    finally:
        killed = _end(process, mark, grace_s)
    return Ended(process.returncode, time.monotonic() - began_at, cut_off, killed)


def _end(process: subprocess.Popen[bytes], mark: str, grace_s: float) -> int:
    """Ends the command, then by force all that carries its mark; returns how many those were."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    killed = int(process.poll() is None)
    process.kill()
    process.wait()
    return killed + _end_marked(mark)


def _end_marked(mark: str) -> int:
    """Ends by force what carries a mark and does not end by itself; returns how many those were."""
    psutil.wait_procs(_marked(mark), timeout=_SETTLE_S)
    killed = set[int]()
    while left := _marked(mark):  # again and again: one of them may start another meanwhile
        for each in left:
            with suppress(psutil.Error):
                each.kill()
        killed |= {each.pid for each in left}
        psutil.wait_procs(left, timeout=0.2)
    return len(killed)


def _marked(mark: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _environment(process).get(_MARK) == mark]


def _environment(process: psutil.Process) -> dict[str, str]:
    """Environment of a process; empty for one that has gone, is a zombie, or belongs to another user."""
    try:
        return process.environ()
    except psutil.Error:
        return {}
