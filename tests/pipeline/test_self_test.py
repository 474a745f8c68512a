"""Tests of the engine's health check: workers or a device that hang, and an engine that lets no image through."""

import threading
import time
from collections.abc import Sequence

import psutil
import pytest
import torch

from harness.photographs import jpeg, photograph
from pipeline.engine import Engine
from pipeline.errors import EngineStalled
from pipeline.model.device import PendingBatch
from pipeline.records import EncodedImage, Prediction
from tests.conftest import SMALL
from tests.support.answers import kinds
from tests.support.waiting import PATIENCE_S, until

CAT = jpeg(photograph("cat"))


def test_an_engine_with_a_worker_that_hangs_is_well_again(small: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging worker is found by the engine's own probe image and replaced, without any request."""
    monkeypatch.setattr("pipeline.decode.worker_health.STOPPED_AFTER_S", PATIENCE_S)  # stopped means hanging here
    small.start()
    (pid,) = small.worker_pids
    psutil.Process(pid).suspend()
    until(lambda: not stuck(small) and small.stats.workers_replaced and small.stats.workers_ready)
    assert pid not in small.worker_pids
    assert kinds(small.infer([CAT])) == [Prediction]
    small.check()


def test_an_engine_whose_device_is_stuck_says_so(small: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` reports a device that is stuck, and stops reporting it when the device answers again."""
    small.start()
    may_go_on, compute = threading.Event(), small._compute._device.launch

    def hang(pieces: Sequence[torch.Tensor]) -> PendingBatch:
        assert may_go_on.wait(PATIENCE_S)
        return compute(pieces)

    monkeypatch.setattr(small._compute._device, "launch", hang)
    monkeypatch.setattr(small._compute, "_stuck_after_s", 1.0)
    (waiting,) = small.submit([[EncodedImage(CAT)]])
    until(lambda: "the device has not answered a batch for" in stuck(small))
    may_go_on.set()
    assert kinds(waiting.result(PATIENCE_S)) == [Prediction]
    assert not stuck(small)


def test_an_engine_that_lets_nothing_through_says_so(small: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` reports an engine in which no image gets through, here because all slots are taken."""
    monkeypatch.setattr("pipeline.self_test.PROBE_WHEN_IDLE_FOR_S", 0.1)
    monkeypatch.setattr("pipeline.self_test.STALLED_AFTER_S", 0.5)
    small.start()
    first, count = small._decode._slots.take(SMALL.slots)
    assert count == SMALL.slots
    until(lambda: "no image has come through for" in stuck(small))
    small._decode._dispatcher.moved_at = time.monotonic()  # as if a worker had just been ended with its image
    assert not stuck(small)
    until(lambda: "no image has come through for" in stuck(small))
    small._decode._supervisor._freezes.resumed_at = time.monotonic()  # as if all processes had just been frozen
    assert not stuck(small)
    until(lambda: "no image has come through for" in stuck(small))
    small._decode._give_back(first, count)
    until(lambda: not stuck(small))


def stuck(engine: Engine) -> str:
    """Return the complaint of the engine's health check."""
    try:
        engine.check()
    except EngineStalled as error:
        return str(error)
    return ""
