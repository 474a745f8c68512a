"""Tests of one image on its way, and of its request."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest

from pipeline.errors import DeviceFailure, EngineClosed, UndecodableImage
from pipeline.records import EncodedImage, Prediction, Rejection
from pipeline.task import Request, Task


def request(images: int) -> Request:
    return Request([EncodedImage(b"")] * images)


def complete(task: Task) -> None:
    task.complete(task.position)


def test_a_request_without_images_is_answered() -> None:
    assert request(0).future.result(timeout=0) == []


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_outcomes_are_in_the_order_of_the_images(order: tuple[int, ...]) -> None:
    """Outcomes are in the order of the images, whichever ends first; before the last one the request is open."""
    whole = request(3)
    for position in order:
        assert not whole.future.done()
        complete(whole.tasks[position])
    answers = [outcome.result for outcome in whole.future.result(timeout=0) if isinstance(outcome, Prediction)]
    assert answers == [0, 1, 2]


def test_a_rejection_stands_in_its_place() -> None:
    whole, error = request(3), UndecodableImage("torn")
    complete(whole.tasks[0])
    whole.tasks[1].reject(error)
    complete(whole.tasks[2])
    first, second, third = whole.future.result(timeout=0)
    assert second == Rejection(error)
    assert isinstance(first, Prediction)
    assert isinstance(third, Prediction)


def test_the_first_failure_of_a_request_counts() -> None:
    """The first failure of a request counts; later outcomes of its images change nothing."""
    whole = request(2)
    whole.fail(DeviceFailure("first"))
    whole.fail(EngineClosed("second"))
    for task in whole.tasks:
        complete(task)
    assert whole.abandoned
    with pytest.raises(DeviceFailure, match="first"):
        whole.future.result(timeout=0)


def test_a_failure_after_the_answer_changes_nothing() -> None:
    whole = request(1)
    complete(whole.tasks[0])
    whole.fail(EngineClosed("late"))
    assert len(whole.future.result(timeout=0)) == 1


def test_a_cancelled_request_is_abandoned() -> None:
    """A cancelled request is abandoned, and its answers are dropped silently."""
    whole = request(2)
    assert not whole.abandoned
    whole.future.cancel()
    assert whole.abandoned
    for task in whole.tasks:
        complete(task)
    assert whole.future.cancelled()


@pytest.mark.parametrize("end", [complete, lambda task: task.reject(UndecodableImage())], ids=["predict", "reject"])
def test_nothing_of_an_answered_request_is_left(end: Callable[[Task], None]) -> None:
    """The images of an answered request are freed at once, not at the next garbage collection."""
    whole = request(2)
    gone = weakref.ref(whole)
    gc.disable()
    try:
        for task in whole.tasks:
            end(task)
        del whole, task
        assert gone() is None
    finally:
        gc.enable()


def test_images_may_end_in_many_threads() -> None:
    """Outcomes may arrive from many threads: none of 2,000 is lost, and the request is settled once."""
    whole = request(2000)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(complete, whole.tasks))
    outcomes = whole.future.result(timeout=0)
    assert [outcome.result for outcome in outcomes if isinstance(outcome, Prediction)] == list(range(2000))


def test_stages_that_an_image_did_not_reach_took_no_time() -> None:
    whole = request(1)
    whole.tasks[0].reject(UndecodableImage())
    timings = whole.future.result(timeout=0)[0].timings
    assert timings.queue_s > 0
    assert (timings.decode_s, timings.wait_s, timings.copy_s, timings.model_s) == (0, 0, 0, 0)


def test_the_stages_of_an_image_follow_each_other() -> None:
    """The stages of an image add up to its whole time; time without work counts as waiting."""
    whole = request(1)
    task = whole.tasks[0]
    whole.submitted_at -= 10
    task.decode_s, task.decoded_at, task.copy_s, task.model_s = 0.25, whole.submitted_at + 2, 0.5, 1.0
    complete(task)
    timings = whole.future.result(timeout=0)[0].timings
    assert (timings.queue_s, timings.decode_s, timings.copy_s, timings.model_s) == pytest.approx((1.75, 0.25, 0.5, 1))
    assert timings.wait_s == pytest.approx(10 - 1.75 - 0.25 - 0.5 - 1, abs=0.5)
