"""Whether a process has been stopped, as SIGSTOP does it: it lives, runs no more, and notices nothing itself."""

import time
from typing import Final

STOPPED_STATE: Final = "T"
"""As /proc has it. One that a debugger holds is "t": it is left alone."""


def state_of(pid: int) -> str:
    """The letter that the kernel has for the state of a process; empty where it has ended.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(512)
    except OSError:  # it has just ended
        return ""
    return text.rpartition(b")")[2][1:2].decode()  # its name, between the parentheses, may contain anything


class StoppedProcess:
    """Measures how long a process has been stopped; one that goes on in between starts at nothing again."""

    def __init__(self) -> None:
        self._since = 0.0

    def stopped_s(self, pid: int) -> float:
        """Seconds since the process was first seen stopped; 0 where it is not."""
        if state_of(pid) != STOPPED_STATE:
            self._since = 0.0
            return 0.0
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since
