"""The forkserver: the process that workers are forked from, so that they share one import of torch and Pillow.

Workers are never forked from Ray's process: it has threads, CUDA and gRPC, and a fork of it may hang. The forkserver
does not inherit secrets from the environment of the process that starts it, so an image that takes a worker over finds
none in its memory.
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
from multiprocessing import forkserver, resource_tracker, util
from typing import Final, TypeVar

from pipeline.bounds import STOPPED_AFTER_S
from pipeline.decode.process_state import ZOMBIE_STATE, StoppedProcess, state_of

T = TypeVar("T")

_starting = threading.Lock()
_exiting = threading.Event()
_state = StoppedProcess()

_END_TIMEOUT_MS: Final = 1000

_AFTER_ALL_OTHERS: Final = -100
"""Priority of a finalizer that runs after those of semaphores, which need the resource tracker (0)."""

_SECRET_VARIABLE_NAME: Final = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|_KEY", re.IGNORECASE)
"""Names of environment variables that hold secrets, among them Ray's token and the service's API keys."""


def start_forkserver() -> None:
    """Start the forkserver if it does not run. Does not wait for its imports, which take seconds."""
    with from_forkserver():
        pass


def forked(start: Callable[[], T]) -> T:
    """Call `start`, which starts processes by multiprocessing's forkserver, with a forkserver fit for workers.

    If the forkserver ends meanwhile, `start` is called once more, with another forkserver.
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
    """Run a block while a forkserver runs and no other thread uses it."""
    with _starting, _without_main():
        _ensure_running()
        yield


def look_after_forkserver() -> str:
    """End the forkserver if it has been stopped (SIGSTOP); start another if it has ended. Does not wait.

    A thread that waits for a stopped forkserver to start a worker gets an error when that forkserver ends.

    Returns:
        A sentence for the log about the action taken; empty if there was none.
    """
    if _exiting.is_set() or (pid := forkserver_pid()) is None:
        return ""
    if _state.stopped_s(pid) > STOPPED_AFTER_S:
        os.kill(pid, signal.SIGKILL)
        return f"the forkserver {pid} was stopped (SIGSTOP), and has been ended"
    if state_of(pid) != ZOMBIE_STATE or not _starting.acquire(blocking=False):  # else the start of a worker notices
        return ""
    try:
        with _without_main(), suppress(OSError):  # the next start of a worker reports the error
            _ensure_running()
    finally:
        _starting.release()
    return f"the forkserver {pid} has ended; starting another"


def forkserver_pid() -> int | None:
    """Return the pid of this process's forkserver, which may have ended; None before the first one."""
    pid: int | None = vars(vars(forkserver)["_forkserver"])["_forkserver_pid"]
    return pid


def _has_ended(pid: int | None) -> bool:
    """Return whether a child process ends within a second; it may have been killed just now."""
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
    if _exiting.is_set():
        raise OSError("this process is exiting, and starts no forkserver any more")
    if forkserver_pid() is None:
        util.Finalize(None, _end_at_exit, exitpriority=_AFTER_ALL_OTHERS)
    forkserver.set_forkserver_preload(["pipeline.decode.worker"])
    with _without_secrets(), _without_ctrl_c():
        forkserver.ensure_running()


def _end_at_exit() -> None:
    """End the forkserver and the resource tracker, and start neither again. Runs when this process exits.

    A worker process of Ray's kills its children when it ends, and then waits until no process holds its output pipes. A
    forkserver that was started again in between would hold them, and the process would never end.
    """
    started = _starting.acquire(timeout=_END_TIMEOUT_MS * 1e-3)  # a start that hangs must not delay the exit for ever
    _exiting.set()
    if (pid := forkserver_pid()) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # it may be importing for seconds yet
    tracker = vars(vars(resource_tracker)["_resource_tracker"])
    if (fd := tracker["_fd"]) is not None:
        tracker["_fd"] = None
        os.close(fd)  # the tracker ends when nobody can write to it any more
    if started:
        _starting.release()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Block SIGINT in processes started here: a terminal sends it to all, but it is meant for the one the user started.

    The forkserver installs its own handler only after its imports.
    """
    resource_tracker.ensure_running()  # its start unblocks the signal, so it must come first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which multiprocessing would import again in every worker.

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
    """Remove secrets from this process's environment while a program is started."""
    taken = {name: os.environ.pop(name) for name in [*os.environ] if _SECRET_VARIABLE_NAME.search(name)}
    try:
        yield
    finally:
        os.environ.update(taken)
