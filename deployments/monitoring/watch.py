"""Measures a replica: counts the requests that end, reads the engine each second, and publishes both."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import psutil

from deployments.logs import log_left_out
from deployments.monitoring.last_minute import PREDICTED_OUTCOME, LastMinute, Snapshot
from deployments.monitoring.metrics import Metrics
from pipeline.records import Outcome, Prediction
from pipeline.stats import EngineStats

logger = logging.getLogger(__name__)

_SNAPSHOT_PERIOD_S: Final = 1.0


class Watch:
    """Measurements of one replica; for its event loop alone.

    Args:
        engine_stats: reads the counters of the engine.
        held_bytes: reads the bytes of the bodies in work.
        backlog_s: reads the seconds until the work that waits now will be done.
        device_kind: "cpu" or "cuda".
        reserved_cores: cores that Ray has reserved for the replica.

    Attributes:
        requests: number of requests that ended since the start, by outcome.
    """

    def __init__(
        self,
        engine_stats: Callable[[], EngineStats],
        held_bytes: Callable[[], int],
        backlog_s: Callable[[], float],
        device_kind: str,
        reserved_cores: float = 0.0,
    ) -> None:
        self.requests: Counter[str] = Counter()
        self._engine_stats, self._held_bytes, self._backlog_s = engine_stats, held_bytes, backlog_s
        self._cores = sorted(os.sched_getaffinity(0))
        self._metrics = Metrics()
        psutil.cpu_percent(percpu=True)  # the first call only sets the start of the interval
        self._minute = LastMinute(self._read(), device_kind, reserved_cores)

    def note_images(self, outcomes: Sequence[Outcome]) -> None:
        """Note the outcomes of a request's images."""
        self._minute.now.images.update(
            PREDICTED_OUTCOME if isinstance(outcome, Prediction) else type(outcome.error).__name__
            for outcome in outcomes
        )

    def note_answer(self, stages_s: tuple[float, ...], took_s: float) -> None:
        """Note an answered request, with its seconds in each of `STAGES`; some images may have been rejected."""
        self.requests[PREDICTED_OUTCOME] += 1
        self._minute.now.note_answer(stages_s, took_s)

    def note_end(self, outcome: str) -> None:
        """Note a request that ended otherwise: the class name of its error, or `GONE_OUTCOME`."""
        self.requests[outcome] += 1
        self._minute.now.requests[outcome] += 1

    def stats(self, seconds: int) -> dict[str, Any]:
        """Return figures and verdict for the last `seconds` seconds, 1 to 60."""
        return self._minute.stats(seconds)

    async def run(self) -> None:
        """Read and publish once a second, until cancelled; of seconds in a row that fail only the first is logged."""
        told = False
        while True:
            await asyncio.sleep(_SNAPSHOT_PERIOD_S)
            try:
                await self._take_second()
                told = False
            except Exception:
                if not told:
                    logger.exception("figures of a second could not be read or published")
                told = True

    async def _take_second(self) -> None:
        log_left_out()
        before, snapshot, held_bytes = self._minute.last, self._read(), self._held_bytes()
        ended = self._minute.tick(snapshot)
        await asyncio.to_thread(
            self._metrics.publish, ended, snapshot.engine_stats, held_bytes, snapshot.at_s - before.at_s
        )

    def _read(self) -> Snapshot:
        percents = psutil.cpu_percent(percpu=True)
        busy = sum(percents[core] for core in self._cores if core < len(percents)) / len(self._cores) / 100
        loop_s, process_s = time.thread_time(), time.process_time()
        return Snapshot(
            time.monotonic(), self._engine_stats(), loop_s, process_s, len(self._cores), busy, self._backlog_s()
        )
