"""How many images an engine gets through, when there is always something to do."""

import collections
import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from pipeline.engine import Engine
from pipeline.records import EncodedImage, Outcome, Prediction


def rate(engine: Engine, images: Sequence[bytes], for_s: float, *, together: int = 32, requests: int = 8) -> float:
    """Images a second.

    Args:
        engine: that runs.
        images: encoded, sent in turn.
        for_s: how long.
        together: images a request.
        requests: in work at a time.

    Raises:
        RuntimeError: one was not predicted.
    """
    turn = itertools.cycle(images)

    def submitted() -> Future[list[Outcome]]:
        (future,) = engine.submit([[EncodedImage(next(turn)) for _ in range(together)]])
        return future

    waiting = collections.deque(submitted() for _ in range(requests))
    _predictions(waiting.popleft())  # from here on there is always something to do
    done, begun_at = 0, time.perf_counter()
    while (taken_s := time.perf_counter() - begun_at) < for_s:
        waiting.append(submitted())
        done += _predictions(waiting.popleft())
    for future in waiting:
        future.result()
    return done / taken_s


@contextmanager
def frozen_heap() -> Iterator[None]:
    """No collection of garbage looks at what is there now, as in a replica."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _predictions(future: Future[list[Outcome]]) -> int:
    outcomes = future.result()
    if not all(isinstance(outcome, Prediction) for outcome in outcomes):
        raise RuntimeError(f"a photograph was not predicted: {outcomes}")
    return len(outcomes)
