"""The watchdog process beside a replica or HAProxy: kills it if it is stopped or hangs, and so cannot act itself.

Ray and Serve treat a process that exists as one that works, until its health checks have failed three times, 10 to 18 s
later; clients wait all the while. This program imports only the standard library, to be small and quick to start.
"""

import os
import select
import signal
import sys
from typing import Final

from pipeline.decode.process_state import STOPPED_STATE, state_of

CHECK_PERIOD_S: Final = 0.25
STOPPED_AFTER_S: Final = 1.0
_DEBUGGED_STATE: Final = "t"


def watch(pid: int, pidfd: int, beats: int | None = None, hung_after_s: float = 0.0) -> str:
    """Watch until the process has ended or has to be killed; return the reason to kill it, or an empty text.

    Time is counted in this loop's own rounds: a container that was frozen, or a machine that slept, is not blamed on
    the process.

    Args:
        pid: process id of the watched process.
        pidfd: the same process as a descriptor.
        beats: descriptor on which the process signals that it runs, if it does; silence counts from the first signal.
        hung_after_s: seconds of silence after which the process counts as hung.
    """
    ended, heard = select.poll(), select.poll()
    ended.register(pidfd, select.POLLIN)
    if beats is not None:
        heard.register(beats, select.POLLIN)
    counts, stopped_s, silent_s = False, 0.0, 0.0
    while not ended.poll(CHECK_PERIOD_S * 1e3):
        if beat := bool(heard.poll(0)):
            counts = True
            if beats is not None and not os.read(beats, 4096):
                return ""
        state = state_of(pid)
        stopped_s = stopped_s + CHECK_PERIOD_S if state == STOPPED_STATE else 0.0
        silent_s = silent_s + CHECK_PERIOD_S if counts and not beat and state != _DEBUGGED_STATE else 0.0
        if stopped_s >= STOPPED_AFTER_S:
            return f"it was stopped (SIGSTOP) {stopped_s:g} s ago"
        if counts and silent_s >= hung_after_s:
            return f"its event loop has not run for {silent_s:g} s"
    return ""


def main(name: str, parent: str, hung_after_s: str = "") -> None:
    """Watch the parent process, which may signal on standard input that it runs.

    Args:
        name: name of the parent for the message, such as "replica".
        parent: process id of the parent.
        hung_after_s: seconds of silence on standard input after which the parent is killed; empty if it never writes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the launcher
    if os.getppid() != (pid := int(parent)):  # the parent has ended already
        return
    pidfd = os.pidfd_open(os.getppid())
    beats = (sys.stdin.fileno(), float(hung_after_s)) if hung_after_s else ()
    if os.getppid() == pid and (why := watch(pid, pidfd, *beats)):
        sys.stderr.write(f"darkroom: {name} {pid} is killed: {why}; Serve starts another\n")
        sys.stderr.flush()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
