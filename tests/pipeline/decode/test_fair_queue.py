"""Tests of the queue that is fair between requests."""

import itertools
import random

import pytest

from pipeline.bounds import USUAL_COST_S
from pipeline.decode.fair_queue import FairQueue
from pipeline.records import EncodedImage
from pipeline.task import Request, Task


def request(images: int, cost_s: float = USUAL_COST_S) -> list[Task]:
    image = EncodedImage(b"")
    image.cost_s = cost_s
    return Request([image] * images).tasks


def drained(queue: FairQueue) -> list[Task]:
    return [queue.pop() for _ in range(len(queue))]


def test_requests_take_turns() -> None:
    """Requests take turns: one with a single image that comes last waits for one image of each other request."""
    many, few, one = request(100), request(2), request(1)
    queue = FairQueue()
    for tasks in (many, few, one):
        queue.add(tasks)
    assert drained(queue) == [many[0], few[0], one[0], many[1], few[1], *many[2:]]


def test_requests_that_come_together_take_turns_too() -> None:
    one, two = request(2), request(2)
    queue = FairQueue()
    queue.add([*one, *two])
    assert drained(queue) == [one[0], two[0], one[1], two[1]]


def test_what_is_tried_again_goes_first() -> None:
    """Images that are tried again go first, in their order, and before those that were put back earlier."""
    fresh, first, second = request(2), request(2), request(2)
    queue = FairQueue()
    queue.add(fresh)
    queue.add_again(first)
    queue.add_again(second)
    assert queue.next is second[0]
    assert drained(queue) == [*second, *first, *fresh]


def test_nothing_waits_in_the_end() -> None:
    queue = FairQueue()
    queue.add(request(3))
    queue.add_again(request(1))
    assert len(queue) == len([*queue]) == 4
    queue.clear()
    assert (len(queue), [*queue]) == (0, [])
    with pytest.raises(IndexError):
        queue.pop()


@pytest.mark.parametrize("seed", range(20))
def test_no_image_is_lost_or_given_twice(seed: int) -> None:
    """No image is lost or given twice, in any order of calls, and each request's images keep their order."""
    dice, queue = random.Random(seed), FairQueue()
    waiting: set[Task] = set()
    given: dict[Request, int] = {}  # the position of its last image
    for _ in range(300):
        if dice.random() < 0.4:
            tasks = request(dice.choice([1, 1, 2, 40]))
            queue.add(tasks)
            waiting.update(tasks)
        elif waiting:
            expected = queue.next
            task = queue.pop()
            assert task is expected
            waiting.remove(task)
            assert task.position == given.get(task.request, -1) + 1
            given[task.request] = task.position
        assert len(queue) == len(waiting)
    assert {*queue} == waiting


def test_what_comes_before_a_new_request_is_known() -> None:
    """Ahead of a new request are all retries, and of each other request at most as many images as it has itself.

    Abandoned images do not count.
    """
    queue = FairQueue()
    for images in (100, 2, 1):
        queue.add(request(images))
    abandoned = request(50)
    queue.add(abandoned)
    abandoned[0].request.future.cancel()
    ahead = [queue.ahead_of(images * USUAL_COST_S) for images in (1, 2, 10, 1000)]
    assert [images for images, _ in ahead] == [3, 5, 13, 103]
    assert [cost_s for _, cost_s in ahead] == pytest.approx([n * USUAL_COST_S for n in (3, 5, 13, 103)])
    assert queue.wanted == 103
    queue.add_again(request(4))
    assert queue.ahead_of(USUAL_COST_S)[0] == 7


def test_a_cheap_image_waits_for_none_that_costs_more() -> None:
    """A cheap image goes before eight costlier ones that came earlier, which get their turn after some cheap ones."""
    queue, costlier = FairQueue(), [request(1, cost_s=0.05) for _ in range(8)]
    for tasks in costlier:
        queue.add(tasks)
    assert queue.ahead_of(0.002) == (0, 0.0)
    cheap = request(1, cost_s=0.002)
    queue.add(cheap)
    assert queue.pop() is cheap[0]
    for _ in range(23):
        queue.add(request(1, cost_s=0.002))
        assert queue.pop() not in itertools.chain(*costlier)
    queue.add(request(1, cost_s=0.003))
    assert drained(queue)[:8] == [*itertools.chain(*costlier)]


def test_requests_have_had_as_many_seconds_of_work_each() -> None:
    """Each request gets the same seconds of work.

    An image of ten seconds has one turn where another request has ten.
    """
    queue, dear, cheap = FairQueue(), request(3, cost_s=10.0), request(30, cost_s=1.0)
    queue.add(dear)
    queue.add(cheap)
    order = [task.request is dear[0].request for task in drained(queue)]
    assert [order[:n].count(True) for n in (9, 11, 20, 22, 33)] == [0, 1, 1, 2, 3]
