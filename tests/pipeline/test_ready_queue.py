"""Tests of the queue of decoded images between the two stages."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest
import torch

from pipeline.errors import EngineClosed, WorkerFailure
from pipeline.ready_queue import PixelBatch, ReadyQueue, pieces
from pipeline.records import EncodedImage
from pipeline.task import Request
from tests.support.decode_bench import GEOMETRY
from tests.support.waiting import PATIENCE_S

SLOTS = torch.arange(8 * 2 * 2 * 3, dtype=torch.uint8).reshape(8, 2, 2, 3)


class Returned:
    """A list of the slots that were given back, in their order."""

    def __init__(self) -> None:
        self.slots: list[int] = []

    def __call__(self, first: int, count: int) -> None:
        """Record the slots."""
        self.slots += range(first, first + count)


def batch(first: int, count: int, returned: Returned | None = None) -> PixelBatch:
    tasks = Request([EncodedImage(b"")] * count).tasks
    return PixelBatch(first, SLOTS[first : first + count], tasks, GEOMETRY * count, returned or Returned())


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_has_a_task_for_each_image() -> None:
    with pytest.raises(ValueError, match="a batch of 2 images has 1 tasks and 2 geometries; it must have"):
        PixelBatch(0, SLOTS[:2], Request([EncodedImage(b"")]).tasks, GEOMETRY * 2, Returned())


def test_an_empty_batch_is_a_batch() -> None:
    assert len(batch(3, 0)) == 0


def test_slots_are_given_back_once() -> None:
    """Slots are given back once, however often and from however many threads: they may hold another image by then."""
    returned = Returned()
    one = batch(2, 3, returned)
    threads = [threading.Thread(target=one.release) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    one.fail(EngineClosed("closed"))
    assert returned.slots == [2, 3, 4]


def test_a_batch_that_fails_gives_its_slots_back_and_ends_its_requests() -> None:
    returned = Returned()
    one = batch(0, 2, returned)
    future = one.tasks[0].request.future
    one.fail(WorkerFailure("none starts"))
    assert returned.slots == [0, 1]
    with pytest.raises(WorkerFailure, match="none starts"):
        future.result(timeout=0)


def test_the_images_of_a_batch_give_their_own_slots_back() -> None:
    """After a batch is split, each image gives its own slot back, and the batch none."""
    returned = Returned()
    whole = batch(2, 3, returned)
    singles = whole.singles()
    assert [single.pixels.data_ptr() for single in singles] == [SLOTS[n].data_ptr() for n in (2, 3, 4)]
    assert [single.tasks for single in singles] == [[task] for task in whole.tasks]
    whole.release()
    assert returned.slots == []
    for single in reversed(singles):
        single.release()
        single.release()
    assert returned.slots == [4, 3, 2]


def test_a_batch_that_was_released_cannot_be_split() -> None:
    """A batch whose slots were given back cannot be split, because they may hold other images."""
    one = batch(0, 2)
    one.release()
    with pytest.raises(ValueError, match="a batch that has given its slots back cannot be split"):
        one.singles()


@pytest.mark.parametrize(
    ("batches", "lengths"),
    [
        ([(1, 2), (3, 1)], [3]),
        ([(3, 1), (1, 2)], [1, 2]),
        ([(1, 2), (4, 1)], [2, 1]),
        ([(1, 2), (1, 2)], [2, 2]),
        ([(0, 1), (2, 1), (3, 2), (6, 2)], [1, 3, 2]),
    ],
    ids=["adjoining", "in the wrong order", "with a gap", "the same", "some of them"],
)
def test_batches_that_adjoin_are_one_piece(batches: Sequence[tuple[int, int]], lengths: list[int]) -> None:
    assert [len(piece) for piece in pieces([batch(*each) for each in batches])] == lengths


def test_a_piece_is_one_view_of_the_same_memory() -> None:
    """Adjoining batches are joined to one view of the same memory, wherever it begins."""
    (joined,) = pieces([batch(2, 1), batch(3, 2), batch(5, 3)])
    assert joined.equal(SLOTS[2:8])
    assert joined.data_ptr() == SLOTS[2].data_ptr()


# ---- the queue ------------------------------------------------------------------------------------------------------


def queue(*sizes: int, batch_size: int = 8, concurrent_batches: int = 1) -> ReadyQueue:
    """Return a queue with batches of this many images each."""
    queue = ReadyQueue(batch_size=batch_size, concurrent_batches=concurrent_batches)
    for size in sizes:
        queue.put(batch(0, size))
    return queue


def taken(queue: ReadyQueue, most: int, **options: int) -> list[int]:
    return [len(batch) for batch in queue.take(most, **options)]


def test_batches_are_taken_whole_and_in_their_order() -> None:
    """Batches are taken whole and in order, as many as fit; the first one is taken even if it is too large."""
    one = queue(1, 2, 3, 4)
    assert [taken(one, 5), taken(one, 2), taken(one, 4), taken(one, 4)] == [[1, 2], [3], [4], []]
    assert len(one) == 0


def test_too_few_images_are_left_to_grow() -> None:
    one = queue(1, 2)
    assert taken(one, 4, at_least=4) == []
    one.put(batch(0, 1))
    assert taken(one, 4, at_least=4) == [1, 2, 1]


def test_there_is_room_for_a_batch_a_lane() -> None:
    """The queue has a limit of one batch for each concurrent batch.

    More is still accepted, as workers have it in hand.
    """
    one = queue(5, batch_size=4, concurrent_batches=2)
    assert one.capacity_left == 3
    one.put(batch(0, 6))
    assert (one.capacity_left, len(one)) == (-3, 11)
    one.batch_size = 8
    assert one.capacity_left == 5


def test_who_waits_is_woken_by_a_batch_and_by_the_end() -> None:
    one = queue()
    for told in (True, False):
        woken: Future[bool] = Future()
        waiting = threading.Thread(target=lambda woken=woken: woken.set_result(one.wait()))
        waiting.start()
        if told:
            one.put(batch(0, 1))
        else:
            one.close(EngineClosed("closed"))
        assert woken.result(PATIENCE_S) == told
        waiting.join(PATIENCE_S)
        one.take(8)


def test_all_that_waits_fails_when_the_queue_is_closed_and_all_that_comes() -> None:
    """Closing the queue fails all batches, waiting or late, with the first error; slots come back once."""
    one, returned = queue(), Returned()
    waiting, late = batch(0, 2, returned), batch(4, 1, returned)
    futures = [each.tasks[0].request.future for each in (waiting, late)]
    one.put(waiting)
    one.close(WorkerFailure("first"))
    one.close(EngineClosed("second"))
    one.put(late)
    for future in futures:
        with pytest.raises(WorkerFailure, match="first"):
            future.result(timeout=0)
    assert returned.slots == [0, 1, 4]
    assert (len(one), one.take(8), one.wait()) == (0, [], False)


def test_a_stage_that_takes_slots_back_may_use_the_queue() -> None:
    """The queue holds no lock while a batch fails. Otherwise two threads with a lock each might wait for ever."""
    one = queue()
    seen: list[bool] = []

    def give_back(*_: int) -> None:
        free = threading.Thread(target=lambda: seen.append(one.take(1) == []))
        free.start()
        free.join(PATIENCE_S)

    one.put(PixelBatch(0, SLOTS[:1], Request([EncodedImage(b"")]).tasks, GEOMETRY, give_back))
    one.close(EngineClosed("closed"))
    assert seen == [True]
