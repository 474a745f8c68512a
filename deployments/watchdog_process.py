"""The process beside a replica or HAProxy that ends it where it is stopped or hangs: itself it could not.

Ray and Serve take a process that lives for one that works, until its health checks have failed three times, 10 to 18 s
later; clients wait all the while. It imports nothing but what comes with Python, so that it is small and soon there.
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
    """Watches until the process has ended, or has to be ended; returns why, or nothing.

    Time counts by its own turns: where the whole container was frozen, or the machine asleep, nobody is blamed.

    Args:
        pid: of the process.
        pidfd: likewise, as a descriptor.
        beats: descriptor of a pipe on which it says that it is well, if it does; silence counts from the first time on.
        hung_after_s: the longest silence.
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
            return f"somebody has stopped it (SIGSTOP) {stopped_s:g} s ago"
        if counts and silent_s >= hung_after_s:
            return f"its event loop has not run for {silent_s:g} s"
    return ""


def main(name: str, parent: str, hung_after_s: str = "") -> None:
    """Watches the parent, which may write to standard input.

    Args:
        name: what the parent is, for people.
        parent: its pid.
        hung_after_s: seconds of silence on standard input after which it is ended; none where it does not write.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the launcher
    if os.getppid() != (pid := int(parent)):  # it has ended already
        return
    pidfd = os.pidfd_open(os.getppid())
    beats = (sys.stdin.fileno(), float(hung_after_s)) if hung_after_s else ()
    if os.getppid() == pid and (why := watch(pid, pidfd, *beats)):
        sys.stderr.write(f"darkroom: {name} {pid} is ended: {why}; Serve starts another\n")
        sys.stderr.flush()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
