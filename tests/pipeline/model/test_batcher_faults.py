"""Tests of the batcher when an image, the device or the batcher's own thread fails."""

import logging
import threading
import time

import pytest

from pipeline.errors import DeviceFailure, EngineStalled, ModelFailedOnImage, NonFiniteScores
from pipeline.records import Prediction, Rejection
from tests.support.gated_device import GatedBatcher, GatedDevice, classes, gated_batcher
from tests.support.waiting import PATIENCE_S, until


def test_a_thread_that_hangs_is_reported_while_the_other_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with gated_batcher(GatedDevice(concurrent_batches=2)) as one:
        monkeypatch.setattr(one.batcher, "_stuck_after_s", 0.3)
        hanging = one.put(100)
        until(lambda: one.device.batches)
        gate, one.device.answers = one.device.answers, threading.Semaphore(1000)
        over = time.monotonic() + 0.5
        until(lambda: classes(one.put(7)) == [7] and time.monotonic() > over)
        with pytest.raises(EngineStalled, match="the device has not answered a batch for"):
            one.batcher.check()
        gate.release()
        assert classes(hanging) == [100]
        one.batcher.check()


@pytest.mark.parametrize("when", ["at launch", "later"])
@pytest.mark.parametrize(("ahead", "concurrent_batches"), [(0, 1), (1, 1), (0, 2)])
def test_an_image_that_the_model_fails_on_leaves_its_neighbours(when: str, ahead: int, concurrent_batches: int) -> None:
    """An image that the model fails on is found by bisection and rejected alone; all slots come back."""
    device = GatedDevice(ahead, concurrent_batches)
    device.fails_on, device.fails_late_on = (13, None) if when == "at launch" else (None, 13)
    with gated_batcher(device, max_batch_size=4) as one:
        device.open()
        bad, good = one.put(10, 11, 12, 13), one.put(14, 15)
        *neighbours, last = bad.result(PATIENCE_S)
        assert [outcome.result.indices[0] for outcome in neighbours if isinstance(outcome, Prediction)] == [10, 11, 12]
        assert isinstance(last, Rejection)
        assert isinstance(last.error, ModelFailedOnImage)
        assert classes(good) == [14, 15]
        assert classes(one.put(16)) == [16]
        one.batcher.check()
    assert sorted(one.released) == [10, 11, 12, 13, 14, 15, 16]


@pytest.mark.parametrize("bad", [{12}, {10, 13}, {10, 11, 12, 13}], ids=["one", "two", "all of a batch"])
@pytest.mark.parametrize(("ahead", "concurrent_batches"), [(0, 1), (1, 1), (0, 2)])
def test_an_image_without_scores_leaves_its_neighbours(
    bad: set[int], ahead: int, concurrent_batches: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An image whose scores are NaN is rejected alone, and logged.

    The device goes on, because a black image has scores.
    """
    device = GatedDevice(ahead, concurrent_batches)
    device.nan_on = bad
    device.open()
    with gated_batcher(device, max_batch_size=4) as one, caplog.at_level(logging.WARNING):
        assert classes(one.put(1)) == [1]
        outcomes = one.put(10, 11, 12, 13).result(PATIENCE_S)
        assert {10 + n for n, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)} == bad
        assert {type(outcome.error) for outcome in outcomes if isinstance(outcome, Rejection)} == {NonFiniteScores}
        assert classes(one.put(14, 15)) == [14, 15]
        one.batcher.check()
    assert f"scores of {len(bad)} of 4 images are NaN" in caplog.text
    assert sorted(one.released) == [1, 10, 11, 12, 13, 14, 15]


def test_a_device_that_scores_nothing_any_more_ends_the_engine() -> None:
    """If even a black image gets NaN, the device has failed and no image is blamed."""
    device = GatedDevice()
    device.open()
    with gated_batcher(device) as one:
        assert classes(one.put(1)) == [1]
        device.nan_on = {0, 2, 3}
        with pytest.raises(DeviceFailure, match="the scores of a black image are NaN too"):
            one.put(2, 3).result(PATIENCE_S)
        with pytest.raises(DeviceFailure):
            one.batcher.check()
    assert sorted(one.released) == [1, 2, 3]


def test_a_device_that_fails_on_black_after_nan_ends_the_engine() -> None:
    device = GatedDevice()
    device.open()
    with gated_batcher(device) as one:
        assert classes(one.put(1)) == [1]
        device.nan_on, device.fails_on = {2}, 0
        with pytest.raises(DeviceFailure, match="the device has failed; see the log"):
            one.put(2).result(PATIENCE_S)


def test_a_model_that_has_never_scored_rejects_every_image() -> None:
    """If a black image has never had scores, images are rejected.

    In the warm-up the engine then blames the model and not the device.
    """
    device = GatedDevice()
    device.nan_on = {0, 1}
    device.open()
    with gated_batcher(device) as one:
        (outcome,) = one.put(1).result(PATIENCE_S)
        assert isinstance(outcome, Rejection)
        one.batcher.check()
    assert device.batches == [[1]]


def test_a_batch_too_large_for_the_device_is_answered_in_parts() -> None:
    """A batch that is too large for the device's memory is computed in parts."""
    device = GatedDevice()
    device.most = 2
    with gated_batcher(device) as one:
        device.open()
        assert classes(one.put(1, 2, 3, 4, 5)) == [1, 2, 3, 4, 5]
    assert sorted(one.released) == [1, 2, 3, 4, 5]
    assert [len(batch) for batch in device.batches] == [5, 5, 2, 3, 1, 2]


@pytest.mark.parametrize("concurrent_batches", [1, 2])
def test_a_device_that_computes_nothing_any_more_ends_the_engine(concurrent_batches: int) -> None:
    """If the device computes nothing any more, all requests fail and `check` reports it.

    No image is blamed, and slots come back.
    """
    device = GatedDevice(concurrent_batches=concurrent_batches)
    with gated_batcher(device, max_batch_size=2) as one:
        running = one.put(1, 2)
        until(lambda: device.batches)
        device.most = 0
        waiting = one.put(3, 4)
        device.open()
        assert classes(running) == [1, 2]
        with pytest.raises(DeviceFailure, match="the device has failed") as raised:
            waiting.result(PATIENCE_S)
        assert isinstance(raised.value.__cause__, RuntimeError)
        with pytest.raises(DeviceFailure):
            one.put(5).result(PATIENCE_S)
        with pytest.raises(DeviceFailure):
            one.batcher.check()
    assert sorted(one.released) == [1, 2, 3, 4, 5]


def test_a_thread_that_ends_by_a_defect_leaves_no_request_waiting() -> None:
    """If the batcher's thread ends by a defect, no request is left waiting, and `check` reports it."""
    device = GatedDevice()
    device.swallows = 1
    with gated_batcher(device) as one:
        device.open()
        for _ in range(2):
            with pytest.raises(DeviceFailure, match="the device's thread has failed"):
                one.put(1, 2).result(PATIENCE_S)
        with pytest.raises(DeviceFailure):
            one.batcher.check()
    assert sorted(one.released) == [1, 1, 2, 2]  # each batch is given back once


def test_a_defect_while_images_are_tried_one_by_one_leaves_none_waiting() -> None:
    """A defect during the retry of a failed batch leaves no request waiting."""
    device = GatedDevice()
    device.most, device.swallows = 1, 1
    with gated_batcher(device) as one:
        device.open()
        with pytest.raises(DeviceFailure, match="the device's thread has failed"):
            one.put(1, 2).result(PATIENCE_S)
    assert sorted(one.released) == [1, 2]


def test_a_failed_warm_up_is_reported() -> None:
    """A failed warm-up is raised by `start` and later by `check`, and `close` still works."""
    device = GatedDevice()
    device.fails_on = -1
    one = GatedBatcher(device, max_batch_size=1)
    for step in (one.batcher.start, one.batcher.check):
        with pytest.raises(DeviceFailure, match=r"^the warm-up of the model failed: RuntimeError: no memory left$"):
            step()
    with pytest.raises(DeviceFailure):
        one.put(1).result(timeout=0)
    one.batcher.close()
