"""A loader with its decoder processes, before a device that says what it was given."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from harness.photographs import jpeg, photograph
from pipeline.config import Limits
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.stage import Loader
from pipeline.errors import ImageError
from pipeline.host_batch import HostBatch
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, Transform
from pipeline.task import Request, Task
from tests.support.waiting import PATIENCE_S, until

TRANSFORM = Transform(256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP"))
EXACT = replace(TRANSFORM, decode="exact")
CAT = jpeg(photograph("cat"))


class Bench:
    """A loader before a device that answers each image with the brightness of its pixels.

    Args:
        workers: how many.
        spares: processes that stand ready beside them.
        kind: "cuda" has batches pass DataLoader's pin-memory thread.
        slots: of the shared memory.
        transform: what the workers do with an image.
        decode_timeout_s: of one image, whatever its price is: most tests have images without one.
    """

    def __init__(
        self,
        workers: int,
        *,
        spares: int = 0,
        kind: str = "cpu",
        slots: int = 64,
        transform: Transform = TRANSFORM,
        decode_timeout_s: float = PATIENCE_S,
    ) -> None:
        self.slots = Slots(slots, 224)
        self.loader = Loader(
            workers,
            self.slots,
            transform,
            spares=spares,
            pin_memory=kind == "cuda",
            chunk_bytes=1 << 20,
            decode_timeout_s=decode_timeout_s,
            limits=Limits(),
            device=self,
        )
        self.loader.limit_s = lambda task: decode_timeout_s  # type: ignore[method-assign]  # noqa: ARG005
        self.batch_size = 32
        self.waiting = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.delivered: list[list[Task]] = []
        self._device = ThreadPoolExecutor(1)

    @property
    def wanted(self) -> int:
        """One batch ahead."""
        return self.batch_size

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

    def submit(self, files: Sequence[bytes], *, price_s: float | None = None) -> Request:
        """Queues one request; at the usual price, whatever the images are, or at that one each."""
        images = [EncodedImage(file) for file in files]
        for image in images:
            image.price_s = price_s
        request = Request(images)
        self.loader.submit(request.tasks)
        return request

    def decoding(self, image: bytes) -> list[int]:
        """The workers that decode that image just now."""
        with self.loader._changed:
            ready = [worker for worker in self.loader._crew._workers if worker.chunks]
            slots = [
                (worker.pid, worker.chunks[0].first + position)
                for worker in ready
                for position, task in enumerate(worker.chunks[0].tasks)
                if b"".join(task.image.pieces) == image
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


def outcomes(request: Request) -> list[Outcome]:
    return request.future.result(PATIENCE_S)


def brightness(outcome: Outcome) -> float:
    assert isinstance(outcome, Prediction)
    return outcome.scores[0]


def errors(request: Request) -> list[type[ImageError] | None]:
    """The class of each image's error, None where it has a prediction."""
    return [type(outcome.error) if isinstance(outcome, Rejection) else None for outcome in outcomes(request)]
