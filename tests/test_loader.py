"""Decoder processes: what they are handed, what comes back, and what happens when they die. All processes are real."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import psutil
import pytest

from pipeline import loader as module
from pipeline.config import BATCHES_AHEAD, CHUNKS_PER_WORKER, MAX_FAILED_STARTS, Limits
from pipeline.errors import (
    EngineClosed,
    FatalImage,
    ImageError,
    SlowImage,
    TooManyPixels,
    UndecodableImage,
    WorkerFailure,
)
from pipeline.loader import Loader
from pipeline.records import EncodedImage, HostBatch, Outcome, Prediction, Rejection, Transform
from pipeline.slots import Claim, Slots
from pipeline.task import Request, Task
from tests.photographs import BAD, NAMES, jpeg, photograph, slow_png
from tests.test_slots import SHM
from tests.waiting import PATIENCE_S, until

TRANSFORM = Transform(256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP"))
EXACT = replace(TRANSFORM, decode="exact")
CAT = jpeg(photograph("cat"))


class Bench:
    """A loader before a device that answers each image with the brightness of its pixels."""

    def __init__(
        self, workers: int, *, slots: int = 64, transform: Transform = TRANSFORM, decode_timeout_s: float = PATIENCE_S
    ) -> None:
        self.slots = Slots(slots, 224)
        self.loader = Loader(
            workers,
            self.slots,
            transform,
            pin_memory=False,
            decode_timeout_s=decode_timeout_s,
            limits=Limits(),
            device=self,
        )
        self.batch_size = 32
        self.waiting = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.delivered: list[list[Task]] = []
        self._device = ThreadPoolExecutor(1)

    def put(self, batch: HostBatch, tasks: list[Task]) -> None:
        """What the loader asks of its device."""
        assert len(batch) == len(tasks)
        self.delivered.append(tasks)
        self.waiting += len(batch)
        self._device.submit(self._answer, batch, tasks)

    def _answer(self, batch: HostBatch, tasks: list[Task]) -> None:
        assert self.may_answer.wait(PATIENCE_S)
        brightness = batch.pixels.float().mean((1, 2, 3)).tolist()
        self.waiting -= len(batch)
        self.loader.release(batch)
        for task, value in zip(tasks, brightness, strict=True):
            task.predict(("brightness",), (0,), (value,))

    def submit(self, images: Sequence[bytes]) -> Request:
        """Queues one request."""
        request = Request([EncodedImage(image) for image in images])
        self.loader.submit(request.tasks)
        return request

    def decoding(self, image: bytes) -> list[int]:
        """The workers that decode that image just now."""
        with self.loader._changed:
            ready = [worker for worker in self.loader._workers if worker.chunks]
            slots = [
                (worker.pid, worker.chunks[0].first + position)
                for worker in ready
                for position, task in enumerate(worker.chunks[0].tasks)
                if task.image.data == image
            ]
        return [pid for pid, slot in slots if self.slots.claims[slot] == Claim.STARTED]

    def kill_while_decoding(self, image: bytes, *, but: int = 0) -> int:
        """Kills the worker that decodes that image as soon as one does, other than `but`; returns its pid."""
        (pid,) = until(lambda: set(self.decoding(image)) - {but})
        os.kill(pid, signal.SIGKILL)
        return pid

    def close(self) -> None:
        """Ends the workers, and answers what they delivered."""
        self.may_answer.set()
        self.loader.close()
        self._device.shutdown()


@contextmanager
def started(workers: int, **options: Any) -> Iterator[Bench]:
    """A running bench; at the end every slot is free again."""
    bench = Bench(workers, **options)
    try:
        bench.loader.start()
        yield bench
        until(lambda: bench.slots.free == bench.slots.count)
    finally:
        bench.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    """Two workers for tests that leave them alive."""
    with started(2) as bench:
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """The shared one, whose slots are free before and after each test."""
    yield shared
    shared.loader.limits, shared.batch_size = Limits(), 32
    until(lambda: shared.slots.free == shared.slots.count)


def outcomes(request: Request) -> list[Outcome]:
    return request.future.result(PATIENCE_S)


def brightness(outcome: Outcome) -> float:
    assert isinstance(outcome, Prediction)
    return outcome.scores[0]


def errors(request: Request) -> list[type[ImageError] | None]:
    """The class of each image's error, None where it has a prediction."""
    return [type(outcome.error) if isinstance(outcome, Rejection) else None for outcome in outcomes(request)]


# ---- handing out ----------------------------------------------------------------------------------------------------


def test_every_image_gets_its_own_answer(bench: Bench) -> None:
    """300 images of six kinds through 64 slots: each position has the brightness of its picture."""
    files = {name: jpeg(photograph(name)) for name in NAMES}
    alone = {name: brightness(outcomes(bench.submit([files[name]]))[0]) for name in NAMES}
    assert len({round(value) for value in alone.values()}) >= 5
    names = [NAMES[n * n % len(NAMES)] for n in range(300)]
    assert [brightness(one) for one in outcomes(bench.submit([files[name] for name in names]))] == [
        alone[name] for name in names
    ]


def test_a_request_of_many_images_is_shared_by_all_workers(bench: Bench) -> None:
    """Both decode images of the same request at the same time."""
    request = bench.submit([slow_png()] * 4)
    until(lambda: (bench.slots.claims == Claim.STARTED).sum() == 2)
    assert errors(request) == [None] * 4


def test_one_bad_image_leaves_its_neighbours(bench: Bench) -> None:
    """Bad files between good ones, in one chunk and across chunks."""
    bad = {name: case for name, case in BAD.items() if name != "empty"}
    request = bench.submit([file for case in bad.values() for file in (CAT, case[0], CAT)])
    assert errors(request) == [kind for case in bad.values() for kind in (None, case[1], None)]
    good = {brightness(outcome) for outcome in outcomes(request) if isinstance(outcome, Prediction)}
    assert len(good) == 1


def test_a_rejection_brings_its_message_and_its_timings(bench: Bench) -> None:
    """Across the border between processes; nothing after decoding took time."""
    (outcome,) = outcomes(bench.submit([BAD["png truncated"][0]]))
    assert isinstance(outcome, Rejection)
    assert isinstance(outcome.error, UndecodableImage)
    assert "truncated" in str(outcome.error)
    assert outcome.timings.decode_s > 0
    assert outcome.timings.device_s == 0


def test_the_pixel_limit_holds_from_the_next_image_on(bench: Bench) -> None:
    assert errors(bench.submit([CAT])) == [None]
    bench.loader.limits = Limits(max_image_pixels=photograph("cat").width * photograph("cat").height - 1)
    assert errors(bench.submit([CAT])) == [TooManyPixels]


def test_no_chunk_is_larger_than_a_batch(bench: Bench) -> None:
    bench.batch_size = 3
    before = len(bench.delivered)
    outcomes(bench.submit([CAT] * 40))
    assert max(len(tasks) for tasks in bench.delivered[before:]) == 3


def test_nothing_is_decoded_that_the_device_cannot_use_yet() -> None:
    """Two batches wait at most; what comes then takes its turn before the rest of a large request."""
    with started(1) as bench:
        bench.batch_size = 4
        bench.may_answer.clear()
        large = bench.submit([CAT] * 40)
        until(lambda: bench.waiting >= BATCHES_AHEAD * bench.batch_size)
        single = bench.submit([CAT])
        bench.may_answer.set()
        assert errors(large) == [None] * 40
        assert errors(single) == [None]
        most_ahead = (BATCHES_AHEAD + CHUNKS_PER_WORKER) * bench.batch_size
        order = [task.request is single for tasks in bench.delivered for task in tasks]
        assert order.index(True) <= most_ahead + 1


def test_cancelled_images_are_not_decoded() -> None:
    """What waits behind images in work when its client goes away is never handed to a worker."""
    with started(1) as bench:
        first = bench.submit([slow_png()] * 2)
        waiting, last = bench.submit([CAT] * 5), bench.submit([CAT])
        assert waiting.future.cancel()
        assert errors(first) == [None, None]
        assert errors(last) == [None]
        assert [task.handed_out_at for task in waiting.tasks] == [0.0] * 5


def test_images_wait_where_all_slots_are_taken() -> None:
    """Two slots, ten images, a device that is busy: nothing is lost, and nothing is written over."""
    with started(1, slots=2) as bench:
        bench.may_answer.clear()
        request = bench.submit([jpeg(photograph(name)) for name in NAMES])
        until(lambda: len(bench.delivered) == 2)
        assert bench.slots.free == 0
        bench.may_answer.set()
        values = [brightness(outcome) for outcome in outcomes(request)]
        assert len({round(value) for value in values}) >= 5


def test_large_files_give_their_memory_back() -> None:
    """A file of 20 MB leaves no more in its slot than what every slot keeps."""
    large = CAT + b"\0" * (20 << 20)
    with started(1, slots=2) as bench:
        assert errors(bench.submit([large])) == [None]
        until(lambda: bench.slots.free == 2)
        assert os.fstat(bench.slots._fd).st_blocks * 512 < 4 << 20


# ---- death ----------------------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_nobody_an_answer() -> None:
    """Its finished images are kept, the others are decoded by another; then the pool is whole again."""
    with started(1) as bench:
        request = bench.submit([CAT, CAT, slow_png(), CAT, CAT, CAT])
        until(lambda: bench.decoding(slow_png()))
        handed_out = [task.handed_out_at for task in request.tasks]
        killed = bench.kill_while_decoding(slow_png())
        assert errors(request) == [None] * 6
        again = [task.handed_out_at != at for task, at in zip(request.tasks, handed_out, strict=True)]
        assert again == [False, False, True, True, True, True]
        assert [task.attempts for task in request.tasks] == [0, 0, 1, 0, 0, 0]
        (pid,) = until(lambda: bench.loader.pids)
        assert pid != killed
        bench.loader.check()


def test_an_image_that_kills_its_worker_twice_is_rejected() -> None:
    """And it alone: neighbours in its chunk and in the chunk behind get their predictions."""
    with started(1) as bench:
        request = bench.submit([CAT, CAT, slow_png(), CAT, CAT, CAT])
        first = bench.kill_while_decoding(slow_png())
        bench.kill_while_decoding(slow_png(), but=first)
        assert errors(request) == [None, None, FatalImage, None, None, None]
        assert [task.attempts for task in request.tasks] == [0, 0, 1, 0, 0, 0]
        assert errors(bench.submit([CAT])) == [None]


def test_an_image_that_killed_its_worker_travels_alone() -> None:
    """Also where several did: the second death puts what it leaves before the first one's, and neighbours between."""
    with started(2) as bench:
        request = bench.submit([slow_png(), CAT, CAT, CAT, CAT, slow_png(), *[CAT] * 10])
        until(lambda: len(bench.decoding(slow_png())) == 2)
        pids = bench.decoding(slow_png())
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            until(lambda: pid not in bench.loader.pids)  # noqa: B023 - called in this turn
        assert errors(request) == [None] * 16
        suspects = [tasks for tasks in bench.delivered if any(task.attempts for task in tasks)]
        assert [len(tasks) for tasks in suspects] == [1, 1]
        until(lambda: len(set(bench.loader.pids) - set(pids)) == 2)


def test_an_image_that_hangs_its_worker_is_rejected() -> None:
    """By the time limit, at once and without a second try; neighbours in both chunks get their predictions."""
    with started(1, decode_timeout_s=1.0) as bench:
        request = bench.submit([CAT, CAT, CAT, slow_png(), CAT, CAT])
        (pid,) = until(lambda: bench.decoding(slow_png()))
        os.kill(pid, signal.SIGSTOP)
        assert errors(request) == [None, None, None, SlowImage, None, None]
        assert [task.attempts for task in request.tasks] == [0] * 6
        until(lambda: not psutil.pid_exists(pid))
        until(lambda: bench.loader.pids not in ([], [pid]))
        assert errors(bench.submit([CAT])) == [None]


def test_a_worker_that_was_stopped_while_idle_is_replaced() -> None:
    """It never begins what it is handed: nothing is blamed, and all of it is decoded by another."""
    with started(1) as bench:
        (pid,) = bench.loader.pids
        os.kill(pid, signal.SIGSTOP)
        request = bench.submit([CAT, CAT])
        assert errors(request) == [None, None]
        assert [task.attempts for task in request.tasks] == [0, 0]
        assert bench.loader.pids != [pid]
        until(lambda: not psutil.pid_exists(pid))


def test_a_worker_with_much_in_hand_is_not_ended() -> None:
    """What counts is the time since its last image, not how long the chunk takes: here longer than CLAIM_TIMEOUT_S."""
    with started(1) as bench:
        pids = bench.loader.pids
        assert errors(bench.submit([slow_png()] * 20)) == [None] * 20
        assert bench.loader.pids == pids


def test_an_idle_worker_that_dies_is_replaced() -> None:
    """Whatever ended it, and as often as it happens: only deaths before the first word count as failed starts."""
    with started(1) as bench:
        for end in [signal.SIGTERM, signal.SIGKILL] * (MAX_FAILED_STARTS // 2 + 1):
            (pid,) = until(lambda: bench.loader.pids)
            os.kill(pid, end)
            until(lambda: bench.loader.pids not in ([], [pid]))  # noqa: B023 - called in this turn
            assert errors(bench.submit([CAT])) == [None]


def test_a_dead_worker_leaves_no_semaphore() -> None:
    """Its DataLoader is dropped with it, however often it happens."""

    def semaphores() -> int:
        return len([*SHM.glob(f"sem.darkroom-{os.getpid()}-*")])

    with started(1) as bench:
        of_one = semaphores()
        for _ in range(3):
            (pid,) = until(lambda: bench.loader.pids)
            os.kill(pid, signal.SIGKILL)
            until(lambda: bench.loader.pids not in ([], [pid]))  # noqa: B023 - called in this turn
        until(lambda: semaphores() == of_one)


def test_the_end_of_the_watch_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would notice a death any more: what is asked fails instead of waiting for ever."""
    with started(1) as bench:
        monkeypatch.setattr(bench.loader, "_end_slow_workers", lambda: bench.slots.named("no such slots"))
        until(lambda: bench.loader._failure)
        for ask in (bench.loader.check, lambda: outcomes(bench.submit([CAT]))):
            with pytest.raises(WorkerFailure, match=r"the watch over the decoder processes has ended"):
                ask()


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        """What a worker does as it starts."""
        return os._exit, (1,)


def test_workers_that_cannot_start_are_reported() -> None:
    """They die on their way, and after the third death in a row the loader gives up: all that waits fails."""
    bench = Bench(MAX_FAILED_STARTS, transform=cast(Transform, Deadly()))
    try:
        waiting = bench.submit([CAT])
        with pytest.raises(WorkerFailure, match=r"^3 decoder processes in a row ended before they were ready$"):
            bench.loader.start()
        with pytest.raises(WorkerFailure):
            bench.loader.check()
        for request in (waiting, bench.submit([CAT])):
            with pytest.raises(WorkerFailure):
                outcomes(request)
    finally:
        bench.close()


def test_workers_that_start_too_slowly_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKER_START_TIMEOUT_S", 0.0)
    bench = Bench(1)
    try:
        with pytest.raises(WorkerFailure, match=r"^decoder processes are not ready after 0 s$"):
            bench.loader.start()
    finally:
        bench.close()


# ---- the end --------------------------------------------------------------------------------------------------------


def test_close_fails_what_is_not_decoded() -> None:
    """What waits, and what the worker has in its hands: nobody waits for ever."""
    with started(1) as bench:
        requests = [bench.submit([slow_png()]) for _ in range(4)]
        until(lambda: bench.decoding(slow_png()))
        (pid,) = bench.loader.pids
        bench.loader.close()
        for request in [*requests, bench.submit([CAT])]:
            with pytest.raises(EngineClosed, match=r"before the image was decoded$"):
                request.future.result(timeout=0)
        with pytest.raises(EngineClosed):
            bench.loader.check()
        bench.loader.close()
        until(lambda: not psutil.pid_exists(pid))
        bench.slots.release(0, bench.slots.count)  # nobody is left to do it


def test_close_ends_the_workers() -> None:
    """And the threads that attend to them: left to the end of the interpreter, one inside torch would abort it."""
    before = threading.enumerate()
    with started(2) as bench:
        pids = bench.loader.pids
        assert len(set(pids)) == 2
        assert [thread.name for thread in threading.enumerate() if thread not in before].count("loader-worker") == 2
    assert "loader-worker" not in [thread.name for thread in threading.enumerate() if thread not in before]
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert bench.loader.pids == []


def test_workers_ignore_the_interrupt_of_a_terminal(bench: Bench) -> None:
    """Ctrl-C reaches all processes of the terminal; only the one that owns the loader acts on it."""
    pids = bench.loader.pids
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert errors(bench.submit([CAT] * 8)) == [None] * 8
    assert bench.loader.pids == pids
