"""The parent process of a launcher, with which a private service ends: `darkroom tune`, a benchmark or a test."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""Number of the option in prctl(2)."""


def end_with_parent(pid: int) -> None:
    """Stop this process, as on Ctrl-C, when its parent has ended, even by a crash or SIGKILL.

    Args:
        pid: process id of the parent; if another process has taken its place, it has ended already.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != pid:
        os.kill(os.getpid(), signal.SIGINT)
