"""The process that workers are forked from: all of them share its one import of torch and Pillow.

Never from Ray's own: that one has threads, CUDA and gRPC, and a fork of it may hang. Nor does it get the secrets in
the environment of the process that starts it: an image that takes a worker over finds none in its memory.
"""

import os
import re
import select
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from typing import Final, TypeVar

from pipeline.config import STOPPED_AFTER_S
from pipeline.decode.process_state import StoppedProcess, state_of

T = TypeVar("T")

_starting = threading.Lock()
_state = StoppedProcess()

_END_TIMEOUT_MS: Final = 1000

_ZOMBIE_STATE: Final = "Z"
"""State of a child that has ended and for whose end nobody has waited yet."""

_SECRET_VARIABLE_NAME: Final = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|_KEY", re.IGNORECASE)
"""Names of variables whose values are nobody's business; among them Ray's token and the keys of the service."""


def start_forkserver() -> None:
    """Starts it where it does not run, and does not wait for its imports: they take seconds, as the caller's do."""
    with from_forkserver():
        pass


def forked(start: Callable[[], T]) -> T:
    """Has what multiprocessing starts by its context `forkserver` be started as workers should be.

    Where the forkserver ends meanwhile, it is done once more, by another one.
    """
    with from_forkserver():
        pid = forkserver_pid()
        try:
            return start()
        except (EOFError, OSError):
            if not _has_ended(pid):
                raise
            _ensure_running()
            return start()


@contextmanager
def from_forkserver() -> Iterator[None]:
    """A forkserver runs in this block, and nobody else uses it."""
    with _starting, _without_main():
        _ensure_running()
        yield


def look_after_forkserver() -> str:
    """Ends it where somebody has stopped it (SIGSTOP), and starts another where it has ended. Does not wait.

    Whoever waits for a worker of one that was stopped gets an error when it ends.

    Returns:
        What was done, for the log; empty where nothing had to be.
    """
    if (pid := forkserver_pid()) is None:
        return ""
    if _state.stopped_s(pid) > STOPPED_AFTER_S:
        os.kill(pid, signal.SIGKILL)
        return f"the forkserver {pid} was ended, somebody had stopped it (SIGSTOP)"
    if state_of(pid) != _ZOMBIE_STATE or not _starting.acquire(blocking=False):  # else a worker's start finds it out
        return ""
    try:
        with _without_main(), suppress(OSError):  # the next worker's start says what is wrong
            _ensure_running()
    finally:
        _starting.release()
    return f"the forkserver {pid} has ended; starting another"


def forkserver_pid() -> int | None:
    """The pid of this process's forkserver, which may have ended; None before the first one."""
    pid: int | None = vars(vars(forkserver)["_forkserver"])["_forkserver_pid"]
    return pid


def _has_ended(pid: int | None) -> bool:
    """Whether a child ends within a second; it may have been killed just now."""
    if pid is None:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(_END_TIMEOUT_MS))
    finally:
        os.close(pidfd)


def _ensure_running() -> None:
    forkserver.set_forkserver_preload(["pipeline.decode.worker"])
    with _without_secrets(), _without_ctrl_c():
        forkserver.ensure_running()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Has what is started not hear it: a terminal sends it to all, but it is for the process that the user has started.

    With its own handler for it the forkserver begins only after its imports.
    """
    resource_tracker.ensure_running()  # it lets the signal through again once it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the main module, which multiprocessing would import again in every worker.

    Under Ray that is Ray's own `default_worker.py` (57 MB and 0.45 s a worker); in a script without
    `if __name__ == "__main__":` it is the script, which would start workers in turn.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _without_secrets() -> Iterator[None]:
    """Takes them out of this process's environment, for as long as it takes to start a program."""
    taken = {name: os.environ.pop(name) for name in [*os.environ] if _SECRET_VARIABLE_NAME.search(name)}
    try:
        yield
    finally:
        os.environ.update(taken)
