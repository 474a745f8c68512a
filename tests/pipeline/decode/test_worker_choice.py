"""Tests of spare workers, which take over when another is held up by an image or has died, and help an idle model.

All processes are real.
"""

import os
import signal

import pytest

from pipeline.bounds import COSTLY_FROM_S, MAX_CHUNK_COST_S
from pipeline.decode import dispatcher as module
from pipeline.decode.fair_queue import Backlog
from pipeline.decode.slots import Slots
from pipeline.decode.worker_process import DecodeChunk
from pipeline.records import EncodedImage
from pipeline.task import Request
from tests.support.decode_bench import CAT, Bench, errors, started
from tests.support.image_files import slow_png
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pool treat stopped workers as slow ones."""
    monkeypatch.setattr("pipeline.decode.worker_health.STOPPED_AFTER_S", PATIENCE_S)


def stopped_at_a_slow_image(bench: Bench) -> int:
    """Stop the worker that decodes `slow_png`; return its pid."""
    (pid,) = until(lambda: bench.decoding(slow_png()))
    os.kill(pid, signal.SIGSTOP)
    return pid


def times_delivered(bench: Bench) -> list[int]:
    """Return how often the device was given each image."""
    delivered = [task for tasks in bench.delivered for task in tasks]
    return [delivered.count(task) for task in dict.fromkeys(delivered)]


def test_what_waits_behind_a_slow_image_goes_to_the_spare() -> None:
    """Images behind a slow image go to the spare worker. The slow worker skips them later and goes on."""
    with started(1, spares=1) as bench:
        pids = bench.stage.pids
        slow = bench.submit([slow_png()])
        pid = stopped_at_a_slow_image(bench)
        behind = bench.submit([CAT] * 3)
        assert errors(behind) == [None] * 3
        assert not slow.future.done()
        os.kill(pid, signal.SIGCONT)
        assert errors(slow) == [None]
        assert errors(bench.submit([CAT] * 8)) == [None] * 8
        assert times_delivered(bench) == [1] * 12
        assert bench.stage.pids == pids


def test_an_image_that_was_begun_as_it_was_withdrawn_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that two workers decode is answered once, by the first result; the second result has no effect."""

    def everything(chunk: DecodeChunk, _slots: Slots) -> list[int]:
        return [position for position in range(len(chunk.tasks)) if position not in chunk.withdrawn]

    monkeypatch.setattr(module, "not_begun", everything)
    with started(1, spares=1) as bench:
        slow = bench.submit([slow_png()])
        pid = stopped_at_a_slow_image(bench)
        assert errors(slow) == [None]
        monkeypatch.undo()
        os.kill(pid, signal.SIGCONT)
        until(lambda: times_delivered(bench) == [2])
        assert errors(bench.submit([CAT] * 8)) == [None] * 8


def test_a_slow_worker_that_dies_is_blamed_for_nothing_that_was_withdrawn() -> None:
    """If a slow worker dies, an image that another worker has taken over is not decoded again."""
    with started(1, spares=1) as bench:
        slow = bench.submit([slow_png()])
        pid = stopped_at_a_slow_image(bench)
        behind = bench.submit([CAT] * 3)
        assert errors(behind) == [None] * 3
        os.kill(pid, signal.SIGKILL)
        assert errors(slow) == [None]
        assert [task.attempts for task in [*slow.tasks, *behind.tasks]] == [1, 0, 0, 0]
        assert times_delivered(bench) == [1] * 4


def test_what_a_dead_worker_had_in_hand_goes_to_the_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of a dead worker go to the spare one at once, without waiting for a new process."""
    with started(1, spares=1) as bench:
        monkeypatch.setattr(bench.stage, "_start_worker", lambda: None)
        request = bench.submit([slow_png(), CAT, CAT])
        killed = bench.kill_while_decoding(slow_png())
        assert errors(request) == [None] * 3
        assert len({*bench.stage.pids} - {killed}) == 1


def test_costly_images_leave_a_worker_to_the_others() -> None:
    """Costly images, however many, never occupy the last worker; they wait for each other."""
    with started(2, spares=1) as bench:
        costly = [bench.submit([slow_png()], cost_s=1.0) for _ in range(4)]
        pids = until(lambda: now if len(now := bench.decoding(slow_png())) == 2 else [])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        assert errors(bench.submit([CAT] * 8)) == [None] * 8
        assert not any(request.future.done() for request in costly)
        assert {*bench.decoding(slow_png())} == {*pids}
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert [errors(request) for request in costly] == [[None]] * 4


def test_costly_images_wait_for_each_other_and_nobody_waits_for_them() -> None:
    """A forecast counts costly images, in work or waiting, only for the costly images behind them."""
    with started(1, spares=1) as bench:
        first = bench.submit([slow_png()], cost_s=5.0)
        pid = stopped_at_a_slow_image(bench)
        ratio = bench.stage._dispatcher.backlog.pace.ratio
        _, in_hand_s = bench.stage.ahead_of([1.0])
        assert 4.0 * ratio < in_hand_s < 5.0 * ratio
        second = bench.submit([slow_png()], cost_s=1.0)
        assert bench.stage.ahead_of([1.0])[1] > in_hand_s + 0.5 * ratio
        assert bench.stage.ahead_of([0.003])[1] == 0
        assert bench.stage.ahead_of([0.003, 1.0])[1] > in_hand_s
        os.kill(pid, signal.SIGCONT)
        assert [errors(first), errors(second)] == [[None], [None]]


def test_an_image_beyond_its_cost_counts_as_what_it_may_still_run() -> None:
    """An image that exceeds its cost counts with the time that it may still run, not as one about to end."""
    with started(1, spares=1) as bench:
        request = bench.submit([slow_png()], cost_s=0.1)
        pid = stopped_at_a_slow_image(bench)
        until(lambda: bench.stage.ahead_of([1.0])[1] > PATIENCE_S / 2)
        os.kill(pid, signal.SIGCONT)
        assert errors(request) == [None]


def test_what_a_worker_is_handed_at_a_time_is_bounded_by_its_cost() -> None:
    """The cost of a chunk is bounded, because a few bytes may be much work, for which other images would wait."""
    with started(1) as bench:
        assert errors(bench.submit([CAT] * 20, cost_s=0.75 * MAX_CHUNK_COST_S)) == [None] * 20
        assert [len(tasks) for tasks in bench.delivered] == [1] * 20


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave images behind a slow one where they are: on a busy machine any image may take long."""
    monkeypatch.setattr("pipeline.decode.supervisor.HANDED_OVER_AFTER_S", PATIENCE_S)


@pytest.mark.usefixtures("patient")
def test_a_spare_decodes_too_while_the_model_has_no_images() -> None:
    """While no decoded image waits for the model, spare workers use the cores of its threads."""
    with started(1, spares=1, concurrent_batches=2) as bench:
        requests = [bench.submit([slow_png()]) for _ in range(2)]
        until(lambda: len(bench.decoding(slow_png())) == 2)
        assert [errors(request) for request in requests] == [[None]] * 2


@pytest.mark.usefixtures("patient")
def test_a_spare_leaves_the_cores_to_the_model_while_images_wait_for_it() -> None:
    with started(1, spares=1, concurrent_batches=2) as bench:
        bench.may_answer.clear()
        bench.submit([CAT])
        until(lambda: len(bench.queue) == 1)
        for _ in range(2):
            bench.submit([slow_png()])
        until(lambda: bench.decoding(slow_png()))
        with bench.stage._changed:
            assert len([worker for worker in bench.stage._pool if worker.chunks]) == 1
        bench.may_answer.set()


def at_costly(bench: Bench) -> int:
    """Count the workers that hold a costly image."""
    with bench.stage._changed:
        return sum(worker.is_at_costly for worker in bench.stage._pool)


@pytest.mark.parametrize(("workers", "spares", "concurrent_batches"), [(1, 2, 2), (1, 3, 2), (2, 2, 3)])
def test_costly_images_use_the_cores_of_an_idle_model(workers: int, spares: int, concurrent_batches: int) -> None:
    """Spare workers decode costly images while the model is idle; one worker still answers ordinary images."""
    with started(workers, spares=spares, concurrent_batches=concurrent_batches) as bench:
        costly = [bench.submit([slow_png()], cost_s=20.0) for _ in range(concurrent_batches + 1)]
        pids = until(lambda: now if len(now := bench.decoding(slow_png())) == concurrent_batches else [])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        assert at_costly(bench) == concurrent_batches
        longest_wait_s = (
            20.0 * bench.stage._dispatcher.backlog.pace.ratio * (concurrent_batches + 1) / concurrent_batches
        )
        assert 0.85 * longest_wait_s < bench.stage.ahead_of([20.0])[1] <= longest_wait_s
        assert errors(bench.submit([CAT] * 8)) == [None] * 8
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert [errors(request) for request in costly] == [[None]] * len(costly)


def test_costly_images_keep_to_their_workers_while_the_model_has_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.decode.fair_queue.OTHERS_LEFT_ALONE_FOR_S", 0.0)
    with started(1, spares=2, concurrent_batches=2) as bench:
        bench.may_answer.clear()
        bench.submit([CAT])
        until(lambda: len(bench.queue) == 1)
        for _ in range(3):
            bench.submit([slow_png()], cost_s=1.0)
        pid = stopped_at_a_slow_image(bench)
        assert at_costly(bench) == 1
        bench.may_answer.set()
        until(lambda: at_costly(bench) == 2)
        os.kill(pid, signal.SIGCONT)


def test_costly_images_keep_to_their_workers_while_ordinary_ones_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costly images leave the cores to a client that has sent an ordinary image, until it sends no more."""
    with started(1, spares=2, concurrent_batches=2) as bench:
        assert errors(bench.submit([CAT])) == [None]
        costly = [bench.submit([slow_png()], cost_s=1.0) for _ in range(3)]
        pid = stopped_at_a_slow_image(bench)
        assert at_costly(bench) == 1
        monkeypatch.setattr("pipeline.decode.fair_queue.OTHERS_LEFT_ALONE_FOR_S", 0.0)
        costly.append(bench.submit([slow_png()], cost_s=1.0))
        until(lambda: at_costly(bench) == 2)
        os.kill(pid, signal.SIGCONT)
        assert [errors(request) for request in costly] == [[None]] * 4


@pytest.mark.usefixtures("patient")
def test_costly_images_keep_to_their_workers_while_ordinary_ones_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spare worker is left to ordinary images that wait, even if the model has none."""
    monkeypatch.setattr("pipeline.decode.fair_queue.OTHERS_LEFT_ALONE_FOR_S", 0.0)
    with started(1, spares=3, concurrent_batches=2) as bench:
        ordinary = [bench.submit([slow_png()]) for _ in range(8)]
        pids = until(lambda: now if len(now := bench.decoding(slow_png())) == 2 else [])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        costly = [bench.submit([slow_png()], cost_s=1.0) for _ in range(2)]
        assert until(lambda: at_costly(bench)) == 1
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert [errors(request) for request in [*ordinary, *costly]] == [[None]] * 10


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("workers", "concurrent_batches"), [(2, 1), (2, 2)])
def test_a_spare_does_not_decode_beside_workers_that_are_well(workers: int, concurrent_batches: int) -> None:
    """The spare worker does not decode beside as many workers as the model has threads, or as are configured."""
    with started(workers, spares=1, concurrent_batches=concurrent_batches) as bench:
        requests = [bench.submit([CAT] * 40) for _ in range(3)]
        while not all(request.future.done() for request in requests):
            with bench.stage._changed:
                busy = [worker for worker in bench.stage._pool if worker.chunks]
            assert len(busy) <= 2


def test_time_in_work_counts_while_it_runs() -> None:
    """Decoding time counts while an image is decoded, and is kept if its worker ends instead."""
    with started(1) as bench:
        bench.submit([slow_png()])
        pid = stopped_at_a_slow_image(bench)
        first = bench.stage.stats.decoding_s
        readings = [first, until(lambda: (now := bench.stage.stats.decoding_s) > first + 0.05 and now)]
        os.kill(pid, signal.SIGKILL)
        while bench.slots.free < bench.slots.count:
            readings.append(bench.stage.stats.decoding_s)
        assert readings == sorted(readings)
        assert bench.stage.stats.decoding_s == bench.stage.stats.decoding_s >= readings[-1]


@pytest.mark.parametrize(
    ("cost_s", "costly"), [(0.99 * COSTLY_FROM_S, False), (COSTLY_FROM_S, True)], ids=["below", "at"]
)
def test_the_cost_alone_tells_what_is_costly(cost_s: float, *, costly: bool) -> None:
    """Only the cost makes an image costly. If all images are slow, none is moved to the costly queue."""
    backlog, image = Backlog(), EncodedImage(CAT)
    image.cost_s = cost_s
    for _ in range(100):
        backlog.pace.note(1.0, 0.1)
    backlog.add(Request([image]).tasks)
    assert (len(backlog.ordinary), len(backlog.costly)) == (not costly, costly)
