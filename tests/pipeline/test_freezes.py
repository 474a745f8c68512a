"""Tests that a freeze of all processes, as of a paused container or machine, is blamed on no image and no worker."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from harness.repository import ROOT
from pipeline.bounds import CLAIM_TIMEOUT_S, FROZEN_FROM_S, WORKER_START_TIMEOUT_S
from pipeline.decode.dispatcher import Dispatcher
from pipeline.decode.slots import Slots
from pipeline.decode.supervisor import Supervisor
from pipeline.decode.worker_health import exceeded_s, late_starters
from pipeline.decode.worker_pool import WorkerPool
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.decode.worker_progress import in_work
from pipeline.freezes import Freezes
from pipeline.input_spec import InputSpec
from pipeline.records import EncodedImage
from pipeline.task import Request
from tests.support.decode_bench import TRANSFORM
from tests.support.waiting import PATIENCE_S

FROZEN_S = 4.5
"""Longer than the limits that the program sets."""

SLOTS = Slots(2, InputSpec.of_pixels(224))

PROGRAM = """
import sys, threading
from pipeline.decode.slots import Claim
from pipeline.engine import Engine
from pipeline.records import EncodedImage
from tests.conftest import SMALL
from tests.support.image_files import slow_png
from tests.support.waiting import until

with Engine(SMALL.model_copy(update={"decode_timeout_s": 4.0})) as engine:
    launch, may_go_on = engine._compute._device.launch, threading.Event()
    engine._compute._device.launch = lambda pieces: may_go_on.wait() and launch(pieces)
    engine._compute._stuck_after_s = 4.0
    futures = engine.submit([[EncodedImage(open("examples/chelsea.jpg", "rb").read())]])
    until(lambda: engine._compute.in_work)
    futures += engine.submit([[EncodedImage(slow_png())]])
    until(lambda: (engine._decode._slots.claims == Claim.STARTED).any())
    print("begun", flush=True)
    sys.stdin.readline()
    try:
        engine.check()
    finally:
        may_go_on.set()
    print(*[type(future.result()[0]).__name__ for future in futures], engine.stats.workers_replaced)
"""


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    """Return a worker that was given an image for which it has had too much time."""
    worker = WorkerProcess(SLOTS, TRANSFORM)
    worker.hand_out(DecodeChunk(0, Request([EncodedImage(b"image")]).tasks, 1, 1.0, 1.0))
    worker.oldest_chunk_since_ns -= int(2 * CLAIM_TIMEOUT_S * 1e9)
    yield worker
    worker.pid = 0
    worker.end(0.0)


def test_a_gap_between_looks_is_a_freeze() -> None:
    freezes = Freezes()
    freezes.look()
    assert not freezes.resumed_at
    time.sleep(1.1 * FROZEN_FROM_S)
    freezes.look()
    assert time.monotonic() - freezes.resumed_at < 0.1


def test_a_frozen_image_and_a_frozen_batch_are_answered() -> None:
    """An image in a worker and a batch on the device outlast a freeze that is longer than their limits."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdin
        assert program.stdout
        assert program.stdout.readline() == "begun\n"
        os.killpg(program.pid, signal.SIGSTOP)
        time.sleep(FROZEN_S)
        os.killpg(program.pid, signal.SIGCONT)
        said, _ = program.communicate("go on\n", PATIENCE_S)
    assert said == "Prediction Prediction 0\n"


class _OneWorker(list[WorkerProcess]):
    """A pool of a worker that no other can stand in for."""

    def can_stand_in_for(self, _: WorkerProcess) -> bool:
        """Return False."""
        return False


def test_a_freeze_between_a_look_and_its_verdict_is_blamed_on_no_worker(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = list[WorkerProcess]()
    supervisor = Supervisor(
        cast(WorkerPool, _OneWorker([worker])),
        cast(Dispatcher, SimpleNamespace(limit_s=lambda _: PATIENCE_S)),
        SLOTS,
        threading.Condition(),
        replaced.append,
        decode_timeout_s=PATIENCE_S,
    )

    def frozen(_: object) -> list[WorkerProcess]:
        supervisor._freezes._looked_at -= 2 * FROZEN_FROM_S
        return []

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.decode.supervisor.late_starters", frozen)
        supervisor.look()
    assert replaced == []
    worker.oldest_chunk_since_ns = supervisor._freezes.resumed_at = 0
    supervisor.look()
    assert replaced == [worker]


def test_an_image_that_was_not_begun_is_given_its_time_anew(worker: WorkerProcess) -> None:
    assert _exceeded_s(worker) == CLAIM_TIMEOUT_S
    worker.count_from(time.monotonic_ns())
    assert _exceeded_s(worker) == 0.0


def test_the_start_of_a_worker_is_given_its_time_anew(worker: WorkerProcess) -> None:
    worker.pid, worker.started_at = os.getpid(), time.monotonic() - 2 * WORKER_START_TIMEOUT_S
    assert late_starters([worker])
    worker.count_from(time.monotonic_ns())
    assert not late_starters([worker])


def _exceeded_s(worker: WorkerProcess) -> float:
    return exceeded_s(worker, in_work(worker, SLOTS), PATIENCE_S, lambda _: PATIENCE_S)
