"""The process beside a replica that ends it where it is stopped or hangs: nothing in a stopped process could.

Ray and Serve take a process that lives for a replica that works, until its health checks have failed three times, 18 s
later; clients wait all the while. It imports nothing but what comes with Python, so that it is small and soon there.
"""

import os
import select
import signal
import sys
import time
from typing import Final

from pipeline.process_state import STOPPED, state_of

PERIOD_S: Final = 0.25
STOPPED_AFTER_S: Final = 1.0
_HELD_BY_A_DEBUGGER: Final = "t"


def watch(pid: int, beats: int, hung_after_s: float) -> str:
    """Watches until the process has ended, or has to be ended; returns why, or nothing.

    Time counts by its own turns: where the whole container was frozen, or the machine asleep, nobody is blamed.

    Args:
        pid: of the process.
        beats: descriptor of a pipe on which it says that it is well; silence counts from the first time on.
        hung_after_s: the longest silence.
    """
    poll = select.poll()
    poll.register(beats, select.POLLIN)
    heard, stopped_s, silent_s = False, 0.0, 0.0
    while stopped_s < STOPPED_AFTER_S and silent_s < hung_after_s:
        time.sleep(PERIOD_S)
        if beat := bool(poll.poll(0)):
            heard = True
            if not os.read(beats, 4096):
                return ""
        state = state_of(pid)
        stopped_s = stopped_s + PERIOD_S if state == STOPPED else 0.0
        silent_s = silent_s + PERIOD_S if heard and not beat and state != _HELD_BY_A_DEBUGGER else 0.0
    if stopped_s:
        return f"somebody has stopped it (SIGSTOP) {stopped_s:g} s ago"
    return f"its event loop has not run for {silent_s:g} s"


def main(hung_after_s: float) -> None:
    """Watches the parent, which writes to standard input."""
    pid = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the launcher
    replica = os.pidfd_open(pid)
    if pid == os.getppid() and (why := watch(pid, sys.stdin.fileno(), hung_after_s)):
        sys.stderr.write(f"darkroom: replica {pid} is ended: {why}; Serve starts another\n")
        sys.stderr.flush()
        signal.pidfd_send_signal(replica, signal.SIGKILL)
