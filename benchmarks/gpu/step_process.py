"""Runs one step: a command in its own process, with a time limit; leaves no process behind."""

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
        status: exit status of its command; negative: minus the number of the signal that ended it.
        seconds: duration of the step.
        cut_off: whether the step was stopped at its time limit.
        killed: number of processes that had to be killed.
    """

    status: int
    seconds: float
    cut_off: bool
    killed: int

    @property
    def failed(self) -> bool:
        """True if the step may lack figures."""
        return self.cut_off or self.status != 0


def run_step(
    command: Sequence[str], limit_s: float, log: Path, environment: Mapping[str, str], *, grace_s: float = GRACE_S
) -> Ended:
    """Run a command for at most `limit_s`; afterwards none of its processes is left.

    At the limit the command gets SIGINT, so that it can stop its own processes, and is killed `grace_s` later.
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
