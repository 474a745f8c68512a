"""Tests of the batcher: it takes all decoded images when the device becomes free, and answers them."""

import threading

import pytest

from pipeline.errors import EngineClosed
from tests.support.gated_device import GatedBatcher, GatedDevice, classes, gated_batcher
from tests.support.waiting import PATIENCE_S, until


def test_an_idle_device_takes_an_image_at_once() -> None:
    """An idle device takes an image at once: a batch of one, without a timer."""
    with gated_batcher(GatedDevice()) as one:
        one.device.open()
        assert classes(one.put(7)) == [7]
        assert one.device.batches == [[7]]
        assert one.released == [7]


def test_while_a_batch_is_in_work_others_gather() -> None:
    """Images that arrive while a batch is computed form one batch: eight requests, one batch."""
    with gated_batcher(GatedDevice()) as one:
        first = one.put(100)
        until(lambda: one.device.batches)
        others = [one.put(value) for value in range(8)]
        one.device.open()
        assert [classes(future) for future in (first, *others)] == [[100], *([value] for value in range(8))]
        assert one.device.batches == [[100], [*range(8)]]


def test_no_batch_is_larger_than_the_limit() -> None:
    """No batch exceeds the limit; a chunk that does not fit waits for the next batch and is never split."""
    with gated_batcher(GatedDevice(), max_batch_size=4) as one:
        one.put(100)
        until(lambda: one.device.batches)
        futures = [one.put(0, 1, 2), one.put(3, 4), one.put(5), one.put(6, 7, 8, 9)]
        one.device.open()
        assert [classes(future) for future in futures] == [[0, 1, 2], [3, 4], [5], [6, 7, 8, 9]]
        assert one.device.batches[1:] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_the_limit_holds_from_the_next_batch_on() -> None:
    with gated_batcher(GatedDevice(), max_batch_size=4) as one:
        one.put(100)
        until(lambda: one.device.batches)
        futures = [one.put(value) for value in range(4)]
        one.batcher.max_batch_size = 2
        one.device.open()
        assert [classes(future) for future in futures] == [[0], [1], [2], [3]]
        assert one.device.batches[1:] == [[0, 1], [2, 3]]


def test_behind_a_batch_in_work_no_small_one_is_launched() -> None:
    """A small batch is launched ahead only when the device is idle, because it may still grow."""
    with gated_batcher(GatedDevice(ahead=1), max_batch_size=4) as one:
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
    with gated_batcher(GatedDevice(ahead=1), max_batch_size=2) as one:
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
    with gated_batcher(GatedDevice(ahead=ahead), max_batch_size=2) as one:
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


def test_a_free_thread_takes_an_image_at_once() -> None:
    """A free concurrent batch takes an image at once while another is computed.

    Otherwise the image waits for the first that is free.
    """
    with gated_batcher(GatedDevice(concurrent_batches=2)) as one:
        futures = [one.put(100)]
        until(lambda: len(one.device.batches) == 1)
        futures.append(one.put(101))
        until(lambda: len(one.device.batches) == 2)
        futures += [one.put(value) for value in range(3)]
        assert (one.batcher.in_work, len(one.queue)) == (2, 3)
        assert one.queue.capacity_left == 2 * one.queue.batch_size - 3
        one.device.open()
        assert [classes(future) for future in futures] == [[100], [101], [0], [1], [2]]
        assert one.device.batches == [[100], [101], [0, 1, 2]]
    assert not one.batcher.at_work


def test_with_two_concurrent_batches_the_wait_is_half() -> None:
    for concurrent_batches, seconds in ((1, 2.0), (2, 1.0)):
        with gated_batcher(GatedDevice(concurrent_batches=concurrent_batches), max_batch_size=4) as one:
            assert one.batcher.seconds_until_done(8) == seconds


def test_chunks_side_by_side_are_one_piece() -> None:
    """Chunks are sorted by their place in memory, so adjoining ones need one copy; every image keeps its own answer."""
    with gated_batcher(GatedDevice(), max_batch_size=8) as one:
        one.put(100)
        until(lambda: one.device.batches)
        futures = [one.put(4, 5), one.put(9), one.put(1, 2, 3), one.put(6)]
        one.device.open()
        assert [classes(future) for future in futures] == [[4, 5], [9], [1, 2, 3], [6]]
        assert one.device.batches[1] == [1, 2, 3, 4, 5, 6, 9]
        assert one.device.pieces[1] == 2
        assert sorted(one.released) == [1, 2, 3, 4, 5, 6, 9, 100]


def test_close_answers_what_is_on_the_device_and_fails_what_waits() -> None:
    device = GatedDevice()
    one = GatedBatcher(device, max_batch_size=2)
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
    one = GatedBatcher(GatedDevice())
    future = one.put(1)
    one.batcher.close()
    with pytest.raises(EngineClosed):
        future.result(timeout=0)


@pytest.mark.parametrize("fails_on", [None, 3], ids=["well", "failing"])
def test_time_on_the_device_counts_while_it_runs(fails_on: int | None) -> None:
    """Device time counts while a batch is computed, stands still between batches, and never decreases."""
    with gated_batcher(GatedDevice(ahead=1), max_batch_size=1) as one:
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
