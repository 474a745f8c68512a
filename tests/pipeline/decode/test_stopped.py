"""Tests of worker processes that are stopped (SIGSTOP): they live, so only their state shows it.

All processes are real. Every other limit that would end them is longer than a test waits.
"""

import os
import resource
import signal
from collections import Counter
from typing import cast

import psutil
import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pipeline.bounds import MAX_FAILED_STARTS
from pipeline.decode import worker_health as module
from pipeline.decode.forkserver import forked, forkserver_pid
from pipeline.decode.pipe_queue import WorkerChild
from pipeline.decode.process_state import StoppedProcess, state_of
from pipeline.errors import DecoderCrashed
from pipeline.records import Transform
from tests.pipeline.decode.test_slots import named_maps
from tests.support.decode_bench import CAT, Bench, errors, started
from tests.support.image_files import slow_png
from tests.support.takeover import Act, TakenOver, order
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that no other limit ends a worker."""
    monkeypatch.setattr(module, "CLAIM_TIMEOUT_S", 2 * PATIENCE_S)


def stop_all(bench: Bench) -> list[int]:
    """Stop all workers of a bench; return their pids."""
    pids = bench.stage.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def are_replaced(bench: Bench, pids: list[int]) -> bool:
    """Return whether as many other workers are ready."""
    return len(bench.stage.pids) == len(pids) and not {*bench.stage.pids} & {*pids}


def test_an_image_in_a_stopped_worker_is_decoded_by_the_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in a stopped worker are decoded by the spare one, without blame and without waiting for a new process."""
    with started(1, spares=1) as bench:
        monkeypatch.setattr(bench.stage, "_start_worker", lambda: None)
        request = bench.submit([CAT, slow_png(), CAT])
        (pid,) = until(lambda: bench.decoding(slow_png()))
        os.kill(pid, signal.SIGSTOP)
        assert errors(request) == [None] * 3
        assert [task.attempts for task in request.tasks] == [0] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_are_stopped_while_idle_are_replaced(workers: int) -> None:
    """Idle workers that are stopped are replaced, even all at once and without an image that would reveal it."""
    with started(workers, spares=1) as bench:
        pids = stop_all(bench)
        until(lambda: are_replaced(bench, pids))
        until(lambda: not any(map(psutil.pid_exists, pids)))
        assert errors(bench.submit([CAT] * 8)) == [None] * 8


def test_a_worker_that_is_stopped_before_it_is_ready_is_replaced() -> None:
    """A worker that is stopped before it is ready is replaced, and does not count as one that cannot start."""
    with started(1) as bench:
        pool = bench.stage._pool
        for _ in range(MAX_FAILED_STARTS):
            os.kill(until(lambda: bench.stage.pids)[0], signal.SIGKILL)
            pid = until(lambda: next((worker.pid for worker in pool if not worker.ready), 0))
            os.kill(pid, signal.SIGSTOP)
            until(lambda: bench.stage.pids)
            assert bench.stage.pids != [pid]
        assert errors(bench.submit([CAT])) == [None]


def test_a_worker_that_never_gets_ready_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that never becomes ready is replaced after a timeout, whatever the cause."""
    monkeypatch.setattr(module, "STOPPED_AFTER_S", 2 * PATIENCE_S)
    with started(1) as bench:
        pool = bench.stage._pool
        os.kill(until(lambda: bench.stage.pids)[0], signal.SIGKILL)
        pid = until(lambda: next((worker.pid for worker in pool if not worker.ready), 0))
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(module, "WORKER_START_TIMEOUT_S", 0.0)
        until(lambda: not psutil.pid_exists(pid))
        monkeypatch.undo()
        assert until(lambda: bench.stage.pids) != [pid]


def test_a_stop_of_a_moment_costs_no_worker() -> None:
    with started(1) as bench:
        pids = bench.stage.pids
        for _ in range(5):
            os.kill(pids[0], signal.SIGSTOP)
            os.kill(pids[0], signal.SIGCONT)
            assert errors(bench.submit([CAT])) == [None]
        assert bench.stage.pids == pids


def stop_itself() -> None:
    signal.raise_signal(signal.SIGSTOP)


def test_an_image_that_stops_its_worker_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that stops its worker again and again is rejected: it may have taken the worker over."""
    monkeypatch.setattr("pipeline.decode.worker_pool.MAX_UNBLAMED_DEATHS", 1)
    with started(1, transform=cast(Transform, TakenOver(cast(Act, stop_itself)))) as bench:
        request = bench.submit([CAT, order(cast(Act, stop_itself)), CAT])
        assert errors(request) == [None, DecoderCrashed, None]


def test_a_killed_forkserver_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed forkserver is replaced at once, not when the next worker is needed, and workers are not affected.

    Nor are they taken for ended when DataLoader asks whether they live, which it does after 5 s without a record.
    """
    asked: Counter[int | None] = Counter()

    def is_alive(worker: WorkerChild) -> bool:
        asked[worker.pid] += 1
        return lives(worker)

    lives = WorkerChild.is_alive
    monkeypatch.setattr(WorkerChild, "is_alive", is_alive)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.05,))
    with started(1, spares=1) as bench:
        pids, before = bench.stage.pids, forkserver_pid()
        assert before
        os.kill(before, signal.SIGKILL)
        until(lambda: forkserver_pid() not in (None, before))
        asked.clear()
        until(lambda: all(asked[pid] > 1 for pid in pids))
        assert errors(bench.submit([CAT] * 8)) == [None] * 8
        assert bench.stage.pids == pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: are_replaced(bench, pids))
        assert errors(bench.submit([CAT])) == [None]


def test_a_worker_that_waits_for_a_stopped_forkserver_is_started_by_another() -> None:
    with started(1, spares=1) as bench:
        pids, before = bench.stage.pids, forkserver_pid()
        assert before
        os.kill(before, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: are_replaced(bench, pids))
        assert forkserver_pid() != before
        assert errors(bench.submit([CAT])) == [None]


def test_a_start_that_fails_by_itself_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start is tried again only if its forkserver has ended, not if it fails by itself."""
    monkeypatch.setattr("pipeline.decode.forkserver._END_TIMEOUT_MS", 1)
    tries = []

    def fail() -> None:
        tries.append(forkserver_pid())
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        forked(fail)
    assert len(tries) == 1


def test_no_worker_has_a_lock_that_it_could_take_to_its_grave() -> None:
    """Workers share no semaphore, which a killed process could hold for ever.

    Semaphores also need space in /dev/shm.
    """
    with started(2, spares=1):
        assert named_maps() == set()


def test_the_state_of_a_process_is_read_whatever_its_name_is() -> None:
    """The state of a process is read from /proc even if its name has blanks and parentheses."""
    state = StoppedProcess()
    assert state_of(os.getpid()) == "R"
    assert state_of(2**22 + 1) == ""
    assert state.stopped_s(os.getpid()) == 0.0


def test_a_process_that_cannot_be_looked_at_has_not_ended() -> None:
    """A process is not taken for dead while this one may open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        states = [state_of(os.getpid()), state_of(2**22 + 1)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert states == ["?", "?"]
