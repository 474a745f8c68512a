"""Measures the throughput of an engine that always has images to process."""

import collections
import gc
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.engine import Engine
from pipeline.records import EncodedImage, Outcome, Prediction, StageTimings


@dataclass(frozen=True, slots=True)
class Throughput:
    """Number of images that an engine finished in a time."""

    images: int
    seconds: float
    timings: Sequence[StageTimings]  # of the requests that ended in this time and the one before, in order

    @property
    def per_s(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def decode_s(self) -> float:
        """Mean seconds of an image in a worker."""
        return statistics.fmean(image.decode_s for image in self.timings)


def throughput(
    engine: Engine, images: Sequence[bytes], for_s: float, *, together: int = 32, requests: int = 8
) -> Throughput:
    """Measure the throughput of an engine.

    Images are counted as they leave the device. Counting whole requests would be imprecise: requests in work together
    end at nearly the same time, so the number that ends within a few seconds depends on luck.

    Args:
        engine: a started engine.
        images: encoded images, sent in turn.
        for_s: duration in seconds.
        together: images in one request.
        requests: requests in work at a time.

    Raises:
        RuntimeError: an image was not predicted.
    """
    turn = itertools.cycle(images)

    def submitted() -> Future[list[Outcome]]:
        (future,) = engine.submit([[EncodedImage(next(turn)) for _ in range(together)]])
        return future

    waiting = collections.deque(submitted() for _ in range(requests))
    timings = _timings(waiting.popleft())  # from here on the engine always has work
    before, begun_at = engine.stats, time.perf_counter()
    while time.perf_counter() - begun_at < for_s:
        waiting.append(submitted())
        timings += _timings(waiting.popleft())
    after, ended_at = engine.stats, time.perf_counter()
    for future in waiting:
        _timings(future)
    return Throughput(after.images - before.images, ended_at - begun_at, timings)


@contextmanager
def without_gc() -> Iterator[None]:
    """Hide existing objects from the garbage collector within the block, as in a replica."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _timings(future: Future[list[Outcome]]) -> list[StageTimings]:
    outcomes = future.result()
    if not all(isinstance(outcome, Prediction) for outcome in outcomes):
        raise RuntimeError(f"a photograph was not predicted: {outcomes}")
    return [outcome.timings for outcome in outcomes]
