"""A test bench: a decode stage with its processes, before a model stage that records its batches."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from harness.photographs import jpeg, photograph
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.stage import DecodeStage
from pipeline.errors import EngineClosed, ImageError
from pipeline.images.geometry import Geometry
from pipeline.input_spec import InputSpec
from pipeline.live_limits import Limits
from pipeline.ready_queue import PixelBatch, ReadyQueue
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, Transform
from pipeline.task import Request, Task
from tests.support.waiting import PATIENCE_S, until

TRANSFORM = Transform(256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP"))
GEOMETRY = [Geometry(451, 300, 1, TRANSFORM)]
"""Geometry of one image, for tests that do not check it."""

EXACT = replace(TRANSFORM, decode="exact")
CAT = jpeg(photograph("cat"))


class NotedQueue(ReadyQueue):
    """A ready queue that records the tasks of every batch."""

    def __init__(self, *, batch_size: int, concurrent_batches: int) -> None:
        super().__init__(batch_size=batch_size, concurrent_batches=concurrent_batches)
        self.noted: list[Sequence[Task]] = []

    def put(self, batch: PixelBatch) -> None:
        """Record the batch, and put it."""
        self.noted.append(batch.tasks)
        super().put(batch)


class Bench:
    """A decode stage before a model stage that answers each image with the brightness of its pixels.

    Args:
        workers: number of workers.
        spares: number of spare workers.
        concurrent_batches: batches that the model computes at a time, as far as the decode stage knows.
        slots: slots of the shared memory.
        transform: the workers' transform of an image.
        decode_timeout_s: limit for one image, whatever its cost; most tests use images without a cost.
    """

    def __init__(
        self,
        workers: int,
        *,
        spares: int = 0,
        concurrent_batches: int = 1,
        slots: int = 64,
        transform: Transform = TRANSFORM,
        decode_timeout_s: float = PATIENCE_S,
    ) -> None:
        self.slots = Slots(slots, InputSpec.of_pixels(224))
        self.queue = NotedQueue(batch_size=32, concurrent_batches=concurrent_batches)
        self.stage = DecodeStage(
            workers,
            self.slots,
            transform,
            self.queue,
            spares=spares,
            chunk_bytes=1 << 20,
            decode_timeout_s=decode_timeout_s,
            limits=Limits(),
        )
        self.stage._dispatcher.limit_s = lambda task: decode_timeout_s  # type: ignore[method-assign]  # noqa: ARG005
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._answering = threading.Thread(target=self._answer_all)
        self._answering.start()

    @property
    def delivered(self) -> list[list[Task]]:
        """Return the tasks of every batch so far, in their order."""
        return [[*tasks] for tasks in self.queue.noted]

    def _answer_all(self) -> None:
        while self.queue.wait():
            assert self.may_answer.wait(PATIENCE_S)
            for batch in self.queue.take(1):
                brightness = batch.pixels.float().mean((1, 2, 3)).tolist()
                batch.release()
                for task, value in zip(batch.tasks, brightness, strict=True):
                    task.complete(value)

    def submit(self, files: Sequence[bytes], *, cost_s: float | None = None) -> Request:
        """Queue one request, each image at this cost; without one at the usual cost."""
        images = [EncodedImage(file) for file in files]
        for image in images:
            image.cost_s = cost_s
        request = Request(images)
        self.stage.submit(request.tasks)
        return request

    def decoding(self, image: bytes) -> list[int]:
        """Return the workers that decode this image at the moment."""
        with self.stage._changed:
            ready = [worker for worker in self.stage._pool if worker.chunks]
            slots = [
                (worker.pid, worker.chunks[0].first + position)
                for worker in ready
                for position, task in enumerate(worker.chunks[0].tasks)
                if b"".join(task.image.pieces) == image
            ]
        return [pid for pid, slot in slots if self.slots.claims[slot] == Claim.STARTED]

    def kill_while_decoding(self, image: bytes, *, but: int = 0) -> int:
        """Kill a worker, other than `but`, as soon as it decodes this image; return its pid."""
        (pid,) = until(lambda: set(self.decoding(image)) - {but})
        os.kill(pid, signal.SIGKILL)
        return pid

    def close(self) -> None:
        """End the workers, and answer the images that they delivered."""
        self.may_answer.set()
        self.stage.close()
        until(lambda: not len(self.queue))
        self.queue.close(EngineClosed("the bench was closed"))
        self._answering.join(PATIENCE_S)


@contextmanager
def started(workers: int, **options: Any) -> Iterator[Bench]:
    """Run a bench; at the end every slot must be free again."""
    bench = Bench(workers, **options)
    try:
        bench.stage.start()
        yield bench
        until(lambda: bench.slots.free == bench.slots.count)
    finally:
        bench.close()


def outcomes(request: Request) -> list[Outcome]:
    return request.future.result(PATIENCE_S)


def brightness(outcome: Outcome) -> float:
    assert isinstance(outcome, Prediction)
    brightness: float = outcome.result
    return brightness


def errors(request: Request) -> list[type[ImageError] | None]:
    """Return the class of each image's error, None for a prediction."""
    return [type(outcome.error) if isinstance(outcome, Rejection) else None for outcome in outcomes(request)]
