"""Finds out whether a process is stopped (SIGSTOP): it is alive, does not run, and cannot notice that itself."""

import time
from typing import Final

STOPPED_STATE: Final = "T"
"""State of a stopped process in /proc. A process held by a debugger has "t", and does not count as stopped."""

ZOMBIE_STATE: Final = "Z"
"""State of a process that has ended, and for which its parent has not waited."""


def state_of(pid: int) -> str:
    """Return the kernel's letter for the state of a process; empty if the process has ended, "?" if it is not known.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(512)
    except (FileNotFoundError, ProcessLookupError):  # the process has just ended
        return ""
    except OSError:  # this process may open no further file
        return "?"
    return text.rpartition(b")")[2][1:2].decode()  # the name of the process, in parentheses, may contain any character


class StoppedProcess:
    """Measures how long a process has been stopped; the time restarts at 0 when the process runs in between."""

    def __init__(self) -> None:
        self._since = 0.0

    def stopped_s(self, pid: int) -> float:
        """Return the seconds since the process was first seen stopped; 0 if it is not stopped."""
        if state_of(pid) != STOPPED_STATE:
            self._since = 0.0
            return 0.0
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since
