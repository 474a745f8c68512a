"""The process that workers are forked from: all of them share its one import of torch and Pillow.

Never from Ray's own: that one has threads, CUDA and gRPC, and a fork of it may hang.
"""

import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver

_starting = threading.Lock()


def start_forkserver() -> None:
    """Starts it where it does not run, and does not wait for its imports: they take seconds, as the caller's do."""
    with from_forkserver():
        forkserver.ensure_running()


@contextmanager
def from_forkserver() -> Iterator[None]:
    """What multiprocessing starts in this block, with its context `forkserver`, is started as workers should be."""
    with _starting, _without_main():
        forkserver.set_forkserver_preload(["pipeline.worker"])
        yield


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
