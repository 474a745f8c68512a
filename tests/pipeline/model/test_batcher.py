"""Tests of the batcher: it takes all decoded images when the device becomes free, and answers them."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from pipeline.errors import DeviceFailure, EngineClosed, EngineStalled, ModelFailedOnImage, NonFiniteScores
from pipeline.model.batcher import Batcher
from pipeline.model.classify import Classify
from pipeline.model.device import BatchTimings, PendingBatch
from pipeline.ready_queue import PixelBatch, ReadyQueue
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection
from pipeline.task import Request
from tests.support.decode_bench import GEOMETRY
from tests.support.waiting import PATIENCE_S, until

LABELS = tuple(f"class {index}" for index in range(256))
SLOTS = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3).contiguous()
"""One image a slot; all of its values are the slot's number."""


class Gate:
    """A device whose batches wait for `open`; the class of an image is the value of its pixels."""

    pads = False
    computed_as = "a gate"

    def __init__(self, ahead: int = 0, concurrent_batches: int = 1) -> None:
        self.ahead, self.concurrent_batches = ahead, concurrent_batches
        self.batches: list[list[int]] = []  # the images of every launched batch
        self.pieces: list[int] = []  # number of pieces of memory of each batch
        self.answers = threading.Semaphore(0)
        self.fails_on: int | None = None
        self.fails_late_on: int | None = None
        self.nan_on: set[int] = set()
        self.most = 1000  # most images that fit into its memory
        self.swallows = 0  # number of images that it leaves out

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - part of the protocol
        """Does nothing."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Fails on the value -1. All batch sizes take the same time."""
        if self.fails_on == -1:
            raise RuntimeError("no memory left")
        return {1: 1.0, 1000: 1.0}

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Records the images of a batch."""
        pixels = torch.cat([*pieces])
        values = [int(image[0, 0, 0]) for image in pixels]
        self.batches.append(values)
        self.pieces.append(len(pieces))
        if self.fails_on in values or len(values) > self.most:
            raise RuntimeError("a kernel failed")
        values = values[self.swallows :]
        scores = torch.tensor([[math.nan if value in self.nan_on else 1.0] for value in values])
        rows = {"scores": scores, "classes": torch.tensor(values)[:, None]}
        return PendingBatch(len(values), rows, self._wait(values))

    def _wait(self, values: list[int]) -> Callable[[], BatchTimings]:
        def wait() -> BatchTimings:
            assert self.answers.acquire(timeout=PATIENCE_S)
            if self.fails_late_on in values:
                raise RuntimeError("a kernel failed, and it shows now")
            return BatchTimings(0.0, 1.0)

        return wait

    def open(self, batches: int = 1000) -> None:
        """Lets this many batches end."""
        self.answers.release(batches)


class Line:
    """A batcher with its device and its queue, and the slots that were given back."""

    def __init__(self, device: Gate, max_batch_size: int = 8) -> None:
        self.device, self.released = device, list[int]()
        self.queue = ReadyQueue(batch_size=max_batch_size, concurrent_batches=device.concurrent_batches)
        self.batcher = Batcher(device, Classify(LABELS), self.queue, max_batch_size=max_batch_size)

    def give_back(self, first: int, count: int) -> None:
        """Records slots that are free again."""
        self.released += range(first, first + count)

    def put(self, *slots: int) -> Future[list[Outcome]]:
        """Queues one request whose images lie in these slots, side by side."""
        request = Request([EncodedImage(b"")] * len(slots))
        pixels = SLOTS[slots[0] : slots[0] + len(slots)]
        geometry = GEOMETRY * len(slots)
        self.queue.put(PixelBatch(slots[0], pixels, request.tasks, geometry, lambda *each: self.give_back(*each)))
        return request.future


@contextmanager
def line(device: Gate, max_batch_size: int = 8) -> Iterator[Line]:
    line = Line(device, max_batch_size)
    line.batcher.start()
    try:
        yield line
    finally:
        device.open()
        line.batcher.close()


def classes(future: Future[list[Outcome]]) -> list[int]:
    outcomes = future.result(PATIENCE_S)
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    return [outcome.result.indices[0] for outcome in outcomes if isinstance(outcome, Prediction)]


def test_an_idle_device_takes_an_image_at_once() -> None:
    """An idle device takes an image at once: a batch of one, without a timer."""
    with line(Gate()) as one:
        one.device.open()
        assert classes(one.put(7)) == [7]
        assert one.device.batches == [[7]]
        assert one.released == [7]


def test_while_a_batch_is_in_work_others_gather() -> None:
    """Images that arrive while a batch is computed form one batch: eight requests, one batch."""
    with line(Gate()) as one:
        first = one.put(100)
        until(lambda: one.device.batches)
        others = [one.put(value) for value in range(8)]
        one.device.open()
        assert [classes(future) for future in (first, *others)] == [[100], *([value] for value in range(8))]
        assert one.device.batches == [[100], [*range(8)]]


def test_no_batch_is_larger_than_the_limit() -> None:
    """No batch exceeds the limit; a chunk that does not fit waits for the next batch and is never split."""
    with line(Gate(), max_batch_size=4) as one:
        one.put(100)
        until(lambda: one.device.batches)
        futures = [one.put(0, 1, 2), one.put(3, 4), one.put(5), one.put(6, 7, 8, 9)]
        one.device.open()
        assert [classes(future) for future in futures] == [[0, 1, 2], [3, 4], [5], [6, 7, 8, 9]]
        assert one.device.batches[1:] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_the_limit_holds_from_the_next_batch_on() -> None:
    with line(Gate(), max_batch_size=4) as one:
        one.put(100)
        until(lambda: one.device.batches)
        futures = [one.put(value) for value in range(4)]
        one.batcher.max_batch_size = 2
        one.device.open()
        assert [classes(future) for future in futures] == [[0], [1], [2], [3]]
        assert one.device.batches[1:] == [[0, 1], [2, 3]]


def test_behind_a_batch_in_work_no_small_one_is_launched() -> None:
    """A small batch is launched ahead only when the device is idle, because it may still grow."""
    with line(Gate(ahead=1), max_batch_size=4) as one:
        futures = [one.put(100)]
        until(lambda: one.device.batches)
        futures += [one.put(0, 1, 2), one.put(3, 4, 5)]
        one.device.open(1)
        until(lambda: len(one.device.batches) == 2)
        futures.append(one.put(6))
        one.device.open()
        assert [classes(future) for future in futures] == [[100], [0, 1, 2], [3, 4, 5], [6]]
        assert one.device.batches == [[100], [0, 1, 2], [3, 4, 5, 6]]


def test_a_full_batch_is_launched_ahead() -> None:
    """A full batch is launched while the one before it is computed; the next one waits."""
    with line(Gate(ahead=1), max_batch_size=2) as one:
        futures = [one.put(100)]
        until(lambda: one.device.batches)
        futures += [one.put(2 * n, 2 * n + 1) for n in range(4)]
        one.device.open(1)
        until(lambda: len(one.device.batches) == 3)
        assert one.released == [100]
        one.device.open()
        assert [classes(future) for future in futures] == [[100], [0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(("ahead", "launched"), [(0, 1), (1, 2)], ids=["the CPU", "a device beside it"])
def test_a_device_that_works_on_by_itself_is_fed_before_answers_are_handed_out(ahead: int, launched: int) -> None:
    """A device that computes on its own gets its next batch before answers are given out.

    On the CPU answers go first.
    """
    with line(Gate(ahead=ahead), max_batch_size=2) as one:
        seen: list[int] = []
        give_back = one.give_back

        def noted(first: int, count: int) -> None:
            seen.append(len(one.device.batches))
            give_back(first, count)

        one.give_back = noted  # type: ignore[method-assign]
        futures = [one.put(100)]
        until(lambda: one.device.batches)
        futures += [one.put(2 * n, 2 * n + 1) for n in range(3)]
        one.device.open(1)
        assert classes(futures[0]) == [100]
        assert seen == [launched]


def test_an_idle_lane_takes_an_image_at_once() -> None:
    """A free concurrent batch takes an image at once while another is computed.

    Otherwise the image waits for the first that is free.
    """
    with line(Gate(concurrent_batches=2)) as one:
        futures = [one.put(100)]
        until(lambda: len(one.device.batches) == 1)
        futures.append(one.put(101))
        until(lambda: len(one.device.batches) == 2)
        futures += [one.put(value) for value in range(3)]
        assert (one.batcher.in_work, len(one.queue)) == (2, 3)
        assert one.queue.room == 2 * one.queue.batch_size - 3
        one.device.open()
        assert [classes(future) for future in futures] == [[100], [101], [0], [1], [2]]
        assert one.device.batches == [[100], [101], [0, 1, 2]]
    assert not one.batcher.at_work


def test_with_two_concurrent_batches_the_wait_is_half() -> None:
    for concurrent_batches, seconds in ((1, 2.0), (2, 1.0)):
        with line(Gate(concurrent_batches=concurrent_batches), max_batch_size=4) as one:
            assert one.batcher.seconds_until_done(8) == seconds


def test_a_lane_that_hangs_is_stuck_whatever_the_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with line(Gate(concurrent_batches=2)) as one:
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


def test_chunks_side_by_side_are_one_piece() -> None:
    """Chunks are sorted by their place in memory, so adjoining ones need one copy; every image keeps its own answer."""
    with line(Gate(), max_batch_size=8) as one:
        one.put(100)
        until(lambda: one.device.batches)
        futures = [one.put(4, 5), one.put(9), one.put(1, 2, 3), one.put(6)]
        one.device.open()
        assert [classes(future) for future in futures] == [[4, 5], [9], [1, 2, 3], [6]]
        assert one.device.batches[1] == [1, 2, 3, 4, 5, 6, 9]
        assert one.device.pieces[1] == 2
        assert sorted(one.released) == [1, 2, 3, 4, 5, 6, 9, 100]


@pytest.mark.parametrize("when", ["at launch", "later"])
@pytest.mark.parametrize(("ahead", "concurrent_batches"), [(0, 1), (1, 1), (0, 2)])
def test_an_image_that_the_model_fails_on_leaves_its_neighbours(when: str, ahead: int, concurrent_batches: int) -> None:
    """An image that the model fails on is found by bisection and rejected alone; all slots come back."""
    device = Gate(ahead, concurrent_batches)
    device.fails_on, device.fails_late_on = (13, None) if when == "at launch" else (None, 13)
    with line(device, max_batch_size=4) as one:
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
    device = Gate(ahead, concurrent_batches)
    device.nan_on = bad
    device.open()
    with line(device, max_batch_size=4) as one, caplog.at_level(logging.WARNING):
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
    device = Gate()
    device.open()
    with line(device) as one:
        assert classes(one.put(1)) == [1]
        device.nan_on = {0, 2, 3}
        with pytest.raises(DeviceFailure, match="the scores of a black image are NaN too"):
            one.put(2, 3).result(PATIENCE_S)
        with pytest.raises(DeviceFailure):
            one.batcher.check()
    assert sorted(one.released) == [1, 2, 3]


def test_a_device_that_fails_on_black_after_nan_ends_the_engine() -> None:
    device = Gate()
    device.open()
    with line(device) as one:
        assert classes(one.put(1)) == [1]
        device.nan_on, device.fails_on = {2}, 0
        with pytest.raises(DeviceFailure, match="the device has failed; see the log"):
            one.put(2).result(PATIENCE_S)


def test_a_model_that_has_never_scored_rejects_every_image() -> None:
    """If a black image has never had scores, images are rejected.

    In the warm-up the engine then blames the model and not the device.
    """
    device = Gate()
    device.nan_on = {0, 1}
    device.open()
    with line(device) as one:
        (outcome,) = one.put(1).result(PATIENCE_S)
        assert isinstance(outcome, Rejection)
        one.batcher.check()
    assert device.batches == [[1]]


def test_a_batch_too_large_for_the_device_is_answered_in_parts() -> None:
    """A batch that is too large for the device's memory is computed in parts."""
    device = Gate()
    device.most = 2
    with line(device) as one:
        device.open()
        assert classes(one.put(1, 2, 3, 4, 5)) == [1, 2, 3, 4, 5]
    assert sorted(one.released) == [1, 2, 3, 4, 5]
    assert [len(batch) for batch in device.batches] == [5, 5, 2, 3, 1, 2]


@pytest.mark.parametrize("concurrent_batches", [1, 2])
def test_a_device_that_computes_nothing_any_more_ends_the_engine(concurrent_batches: int) -> None:
    """If the device computes nothing any more, all requests fail and `check` reports it.

    No image is blamed, and slots come back.
    """
    device = Gate(concurrent_batches=concurrent_batches)
    with line(device, max_batch_size=2) as one:
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
    device = Gate()
    device.swallows = 1
    with line(device) as one:
        device.open()
        for _ in range(2):
            with pytest.raises(DeviceFailure, match="the device's thread has failed"):
                one.put(1, 2).result(PATIENCE_S)
        with pytest.raises(DeviceFailure):
            one.batcher.check()
    assert sorted(one.released) == [1, 1, 2, 2]  # each batch is given back once


def test_a_defect_while_images_are_tried_one_by_one_leaves_none_waiting() -> None:
    """A defect during the retry of a failed batch leaves no request waiting."""
    device = Gate()
    device.most, device.swallows = 1, 1
    with line(device) as one:
        device.open()
        with pytest.raises(DeviceFailure, match="the device's thread has failed"):
            one.put(1, 2).result(PATIENCE_S)
    assert sorted(one.released) == [1, 2]


def test_a_failed_warm_up_is_reported() -> None:
    """A failed warm-up is raised by `start` and later by `check`, and `close` still works."""
    device = Gate()
    device.fails_on = -1
    one = Line(device, max_batch_size=1)
    for step in (one.batcher.start, one.batcher.check):
        with pytest.raises(DeviceFailure, match=r"^the warm-up of the model failed: RuntimeError: no memory left$"):
            step()
    with pytest.raises(DeviceFailure):
        one.put(1).result(timeout=0)
    one.batcher.close()


def test_close_answers_what_is_on_the_device_and_fails_what_waits() -> None:
    device = Gate()
    one = Line(device, max_batch_size=2)
    one.batcher.start()
    running = one.put(1, 2)
    until(lambda: device.batches)
    waiting = [one.put(3, 4), one.put(5)]
    closing = threading.Thread(target=one.batcher.close)
    closing.start()
    until(lambda: not one.queue.wait())
    device.open()
    closing.join(PATIENCE_S)
    assert classes(running) == [1, 2]
    for future in waiting:
        with pytest.raises(EngineClosed, match="before the model saw the image"):
            future.result(timeout=0)
    one.batcher.close()
    assert device.batches == [[1, 2]]


def test_a_batcher_that_never_started_can_be_closed() -> None:
    one = Line(Gate())
    future = one.put(1)
    one.batcher.close()
    with pytest.raises(EngineClosed):
        future.result(timeout=0)


@pytest.mark.parametrize("fails_on", [None, 3], ids=["well", "failing"])
def test_time_on_the_device_counts_while_it_runs(fails_on: int | None) -> None:
    """Device time counts while a batch is computed, stands still between batches, and never decreases."""
    with line(Gate(ahead=1), max_batch_size=1) as one:
        assert one.batcher.stats.computing_s == 0
        one.device.fails_late_on = fails_on
        futures = [one.put(3), one.put(4)]
        readings = [until(lambda: one.batcher.stats.computing_s)]
        readings.append(until(lambda: (now := one.batcher.stats.computing_s) > readings[0] and now))
        one.device.open()
        while not all(future.done() for future in futures) or one.batcher.in_work or len(one.queue):
            readings.append(one.batcher.stats.computing_s)
        readings.append(one.batcher.stats.computing_s)
        assert readings == sorted(readings)
        assert one.batcher.stats.computing_s == readings[-1]
