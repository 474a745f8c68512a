"""Runs one step: a command in a process of its own, with a time limit, of which nothing is left behind."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.marked_program import MarkedProgram

GRACE_S: Final = 12.0
"""Seconds between the request to end and the kill: a service takes up to ten to stop in order."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a step.

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
    began_at, cut_off = time.monotonic(), False
    with log.open("ab") as sink:
        program = MarkedProgram(command, environment, sink)
    try:
        program.leader.wait(limit_s)
    except subprocess.TimeoutExpired:
        cut_off = True
    finally:
        killed = program.end(grace_s)
    return Ended(program.leader.returncode, time.monotonic() - began_at, cut_off, killed)
