"""Forecasts when a worker reaches an image, from the images ahead of it and the time that those in work have run."""

import time
from collections.abc import Callable, Sequence

from pipeline.decode.worker_process import DecodeChunk, WorkerProcess


class WaitForecast:
    """Forecasts waits from the present state of the workers.

    Args:
        workers: all workers.
        ratio: decoding time divided by cost.
        limit_s: time limit of a chunk, taken as its duration once the chunk has run for longer than its cost.
    """

    def __init__(self, workers: Sequence[WorkerProcess], ratio: float, limit_s: Callable[[DecodeChunk], float]) -> None:
        self._workers = [worker for worker in workers if worker.ready]
        self._ratio, self._limit_s, self._now_ns = ratio, limit_s, time.monotonic_ns()

    def ordinary_s(self, ahead_s: float, most: int) -> float:
        """Return the seconds until a worker begins ordinary images.

        Args:
            ahead_s: seconds of work that waits ahead of them.
            most: most workers that decode ordinary images at a time.
        """
        quick = [worker for worker in self._workers if worker.is_quick]
        if quick:
            return (sum(map(self._left_s, quick)) + ahead_s) / min(most, len(quick))
        return min(map(self._left_s, self._workers), default=0.0) + ahead_s

    def costly_s(self, ahead_s: float, most: int) -> float:
        """Return the seconds until a worker begins costly images; one worker takes none.

        Args:
            ahead_s: seconds of work that waits ahead of them.
            most: most workers that decode costly images at a time.
        """
        at_it = [worker for worker in self._workers if not worker.is_quick]
        return (sum(map(self._left_s, at_it)) + ahead_s) / max(1, min(most, len(self._workers) - 1))

    def _left_s(self, worker: WorkerProcess) -> float:
        if not worker.chunks:
            return 0.0
        oldest, *others = worker.chunks
        run_s = (self._now_ns - worker.oldest_chunk_since_ns) * 1e-9
        left_s = self._ratio * oldest.cost_s - run_s
        if worker.is_quick:
            return max(0.0, left_s) + self._ratio * sum(chunk.cost_s for chunk in others)
        return left_s if left_s > 0 else max(0.0, self._limit_s(oldest) - run_s)
