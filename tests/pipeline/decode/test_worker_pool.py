"""Tests of the life and death of decoder processes. All of them are real."""

import os
import signal
import threading
from collections.abc import Callable
from typing import cast

import psutil
import pytest

from pipeline.bounds import MAX_FAILED_STARTS, WORKER_NICENESS
from pipeline.decode import stage as module
from pipeline.errors import DecoderCrashed, DecodeTimeout, EngineClosed, WorkerFailure
from pipeline.records import Transform
from tests.support.decode_bench import CAT, Bench, errors, outcomes, started
from tests.support.image_files import slow_png
from tests.support.waiting import PATIENCE_S, until

# ---- death ----------------------------------------------------------------------------------------------------------


def test_workers_give_way_to_the_replica() -> None:
    """Workers have a lower priority than the replica, also those that replace others.

    At 19, the largest niceness, both have the same.
    """
    with started(1) as bench:
        (pid,) = bench.stage.pids
        os.kill(pid, signal.SIGKILL)
        until(lambda: bench.stage.pids not in ([], [pid]))
        (pid,) = bench.stage.pids
        assert psutil.Process(pid).nice() == min(19, psutil.Process().nice() + WORKER_NICENESS)


def test_a_killed_worker_costs_nobody_an_answer() -> None:
    """A worker that is killed costs no image its answer.

    Finished images are kept, the others are decoded by another worker.
    """
    with started(1) as bench:
        request = bench.submit([CAT, CAT, slow_png(), CAT, CAT, CAT])
        until(lambda: bench.decoding(slow_png()))
        handed_out = [task.handed_out_at for task in request.tasks]
        killed = bench.kill_while_decoding(slow_png())
        assert errors(request) == [None] * 6
        again = [task.handed_out_at != at for task, at in zip(request.tasks, handed_out, strict=True)]
        assert again == [False, False, True, True, True, True]
        assert [task.attempts for task in request.tasks] == [0, 0, 1, 0, 0, 0]
        (pid,) = until(lambda: bench.stage.pids)
        assert pid != killed
        bench.stage.check()


def test_an_image_that_kills_its_worker_twice_is_rejected() -> None:
    """An image that kills its worker twice is rejected.

    Its neighbours, in its chunk and in the next, get their predictions.
    """
    with started(1) as bench:
        request = bench.submit([CAT, CAT, slow_png(), CAT, CAT, CAT])
        first = bench.kill_while_decoding(slow_png())
        bench.kill_while_decoding(slow_png(), but=first)
        assert errors(request) == [None, None, DecoderCrashed, None, None, None]
        assert [task.attempts for task in request.tasks] == [0, 0, 1, 0, 0, 0]
        assert errors(bench.submit([CAT])) == [None]


def test_an_image_that_killed_its_worker_travels_alone() -> None:
    """An image that killed its worker is decoded again in a chunk of its own, also after several deaths."""
    with started(2) as bench:
        request = bench.submit([slow_png(), CAT, CAT, CAT, CAT, slow_png(), *[CAT] * 10])
        until(lambda: len(bench.decoding(slow_png())) == 2)
        pids = bench.decoding(slow_png())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in bench.stage.pids)  # noqa: B023 - called in this iteration
        assert errors(request) == [None] * 16
        suspects = [tasks for tasks in bench.delivered if any(task.attempts for task in tasks)]
        assert [len(tasks) for tasks in suspects] == [1, 1]
        until(lambda: len(set(bench.stage.pids) - set(pids)) == 2)


def test_an_image_that_hangs_its_worker_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that hangs its worker is rejected at the time limit without a second try.

    Its neighbours get their predictions.
    """
    monkeypatch.setattr("pipeline.decode.worker_health.STOPPED_AFTER_S", PATIENCE_S)  # stopped means hanging here
    with started(1, decode_timeout_s=1.0) as bench:
        request = bench.submit([CAT, CAT, CAT, slow_png(), CAT, CAT])
        (pid,) = until(lambda: bench.decoding(slow_png()))
        os.kill(pid, signal.SIGSTOP)
        assert errors(request) == [None, None, None, DecodeTimeout, None, None]
        assert [task.attempts for task in request.tasks] == [0] * 6
        until(lambda: not psutil.pid_exists(pid))
        until(lambda: bench.stage.pids not in ([], [pid]))
        assert errors(bench.submit([CAT])) == [None]


def test_an_image_that_takes_more_work_than_its_cost_allows_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that takes more processor time than its cost allows is rejected long before `decode_timeout_s`."""
    with started(1) as bench:
        monkeypatch.setattr(bench.stage._dispatcher, "limit_s", lambda _: 0.1)
        request = bench.submit([CAT, slow_png(), CAT])
        assert errors(request) == [None, DecodeTimeout, None]


def test_a_worker_that_does_not_begin_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not begin its images is replaced; these are not blamed, and are decoded by another worker."""
    monkeypatch.setattr(
        "pipeline.decode.worker_health.STOPPED_AFTER_S", PATIENCE_S
    )  # the stopped process stands in for any delay
    with started(1) as bench:
        (pid,) = bench.stage.pids
        os.kill(pid, signal.SIGSTOP)
        request = bench.submit([CAT, CAT])
        assert errors(request) == [None, None]
        assert [task.attempts for task in request.tasks] == [0, 0]
        assert bench.stage.pids != [pid]
        until(lambda: not psutil.pid_exists(pid))


def test_a_worker_with_much_in_hand_is_not_ended() -> None:
    """A worker with a long chunk is not ended.

    The limit counts from its last image, not from the start of the chunk.
    """
    with started(1) as bench:
        pids = bench.stage.pids
        assert errors(bench.submit([slow_png()] * 20)) == [None] * 20
        assert bench.stage.pids == pids


def test_an_idle_worker_that_dies_is_replaced() -> None:
    """An idle worker that dies is replaced, however often. Only deaths before it was ready count as failed starts."""
    with started(1) as bench:
        for end in [signal.SIGTERM, signal.SIGKILL] * (MAX_FAILED_STARTS // 2 + 1):
            (pid,) = until(lambda: bench.stage.pids)
            os.kill(pid, end)
            until(lambda: bench.stage.pids not in ([], [pid]))  # noqa: B023 - called in this iteration
            assert errors(bench.submit([CAT])) == [None]


def test_the_end_of_the_watch_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the thread that watches the workers ends, requests fail.

    No death would be noticed, and they would wait for ever.
    """
    with started(1) as bench:
        none = bench.slots.count
        monkeypatch.setattr(bench.stage._supervisor, "_slow_workers", lambda: bench.slots.claims[none])
        until(lambda: bench.stage._failure)
        for ask in (bench.stage.check, lambda: outcomes(bench.submit([CAT]))):
            with pytest.raises(WorkerFailure, match=r"the thread that supervises the decoder processes has failed"):
                ask()


class Deadly:
    """A transform that ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        """End the worker as it starts."""
        return os._exit, (1,)


def test_workers_that_cannot_start_are_reported() -> None:
    """After three workers in a row that die during their start, the stage fails, with all requests that wait."""
    bench = Bench(MAX_FAILED_STARTS, transform=cast(Transform, Deadly()))
    try:
        waiting = bench.submit([CAT])
        with pytest.raises(WorkerFailure, match=r"^3 decoder processes in a row ended before they were ready$"):
            bench.stage.start()
        with pytest.raises(WorkerFailure):
            bench.stage.check()
        for request in (waiting, bench.submit([CAT])):
            with pytest.raises(WorkerFailure):
                outcomes(request)
    finally:
        bench.close()


def test_a_worker_that_cannot_be_replaced_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no process can be started in place of a dead one, the stage fails, and is closed in order."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with started(1) as bench:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        os.kill(bench.stage.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerFailure, match="no decoder process can be started: can't start new thread"):
            until(lambda: bench.stage.check())
        monkeypatch.undo()
        with pytest.raises(WorkerFailure):
            outcomes(bench.submit([CAT]))


def test_workers_that_start_too_slowly_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKER_START_TIMEOUT_S", 0.0)
    bench = Bench(1)
    try:
        with pytest.raises(WorkerFailure, match=r"^decoder processes are not ready after 0 s$"):
            bench.stage.start()
    finally:
        bench.close()


# ---- the end --------------------------------------------------------------------------------------------------------


def test_close_fails_what_is_not_decoded() -> None:
    """Closing the stage fails all images that wait or are in work, so no request waits for ever."""
    with started(1) as bench:
        requests = [bench.submit([slow_png()]) for _ in range(4)]
        until(lambda: bench.decoding(slow_png()))
        (pid,) = bench.stage.pids
        bench.stage.close()
        for request in [*requests, bench.submit([CAT])]:
            with pytest.raises(EngineClosed, match=r"before the image was decoded$"):
                request.future.result(timeout=0)
        with pytest.raises(EngineClosed):
            bench.stage.check()
        bench.stage.close()
        until(lambda: not psutil.pid_exists(pid))
        bench.slots.release(0, bench.slots.count)  # the watch that would do it has ended


def test_close_ends_the_workers() -> None:
    """Closing the stage ends the workers and their threads.

    A thread inside torch at the interpreter's end would abort it.
    """
    before = threading.enumerate()
    with started(2) as bench:
        pids = bench.stage.pids
        assert len(set(pids)) == 2
        assert [thread.name for thread in threading.enumerate() if thread not in before].count("decode-worker") == 2
    assert "decode-worker" not in [thread.name for thread in threading.enumerate() if thread not in before]
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert bench.stage.pids == []


def test_workers_ignore_the_interrupt_of_a_terminal() -> None:
    """Workers ignore Ctrl-C, which reaches all processes of a terminal; only the replica acts on it."""
    with started(2) as bench:
        pids = bench.stage.pids
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        assert errors(bench.submit([CAT] * 8)) == [None] * 8
        assert bench.stage.pids == pids
