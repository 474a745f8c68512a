"""Measurement of a service's memory during a load."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil


class Memory:
    """Records the resident memory of a service's processes, in a thread; a context manager.

    Resident set sizes are added up, so pages that processes share count in each of them.

    Args:
        processes: lists the processes.
    """

    def __init__(self, processes: Callable[[], list[psutil.Process]]) -> None:
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before_bytes = self.peak_bytes = 0

    def __enter__(self) -> Self:
        self.before_bytes = self.peak_bytes = _resident_bytes(self._processes())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown_bytes(self) -> int:
        """The peak, less the memory before the block."""
        return self.peak_bytes - self.before_bytes

    def _watch(self) -> None:
        looked_at, processes = 0.0, list[psutil.Process]()
        while not self._over.wait(0.05):
            if time.monotonic() - looked_at > 1:  # finding the processes costs more than reading their sizes
                looked_at, processes = time.monotonic(), self._processes()
            self.peak_bytes = max(self.peak_bytes, _resident_bytes(processes))


def _resident_bytes(processes: list[psutil.Process]) -> int:
    pages = 0
    for process in processes:
        with suppress(OSError):
            pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
