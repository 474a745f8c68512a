"""Times of the device: how long its threads have computed, and how many batches of each size."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from pipeline.model.device_thread import DeviceThread
from pipeline.stats import ModelStats


class DeviceTimes:
    """Totals of the device's threads since the start.

    Args:
        threads: the threads; each begins and ends its own batches here.
    """

    def __init__(self, threads: Sequence[DeviceThread]) -> None:
        self._threads = threads
        self._lock = threading.Lock()  # guards all below, and `busy_since` of the threads
        self._batches: Counter[int] = Counter()
        self._ended_s = self._computing_s = 0.0  # of batches that have ended; the last value in `stats`

    def begin(self, thread: DeviceThread, now: float) -> None:
        """Note that a batch is launched at `now`, by `time.perf_counter`; it may wait for the one in work."""
        with self._lock:
            thread.busy_since = thread.busy_since or now

    def count(self, images: int) -> None:
        """Count a batch that was computed."""
        with self._lock:
            self._batches[images] += 1

    def end(self, thread: DeviceThread, now: float) -> None:
        """Note that a batch has ended, with or without an error; the one behind it begins, if there is one."""
        with self._lock:
            if thread.busy_since:
                self._ended_s += now - thread.busy_since
            thread.busy_since = now if len(thread.in_flight) > 1 else 0.0

    @property
    def stats(self) -> ModelStats:
        """Totals since the start, and the work in progress."""
        with self._lock:
            now = time.perf_counter()
            in_work_s = sum(now - thread.busy_since for thread in self._threads if thread.busy_since)
            self._computing_s = max(self._computing_s, self._ended_s + in_work_s)  # it never falls
            images = sum(thread.images for thread in self._threads)
            return ModelStats(self._computing_s, self._batches.copy(), len(self._threads), images)
