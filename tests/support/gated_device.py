"""A batcher on a device whose batches end when the test allows it."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import torch
from torch import Tensor

from pipeline.model.batcher import Batcher
from pipeline.model.classify import Classify
from pipeline.model.device import BatchTimings, ComputedAs, PendingBatch
from pipeline.ready_queue import PixelBatch, ReadyQueue
from pipeline.records import EncodedImage, Outcome, Prediction
from pipeline.task import Request
from tests.support.decode_bench import GEOMETRY
from tests.support.waiting import PATIENCE_S

LABELS = tuple(f"class {index}" for index in range(256))
SLOTS = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3).contiguous()
"""One image a slot; all of its values are the slot's number."""


class GatedDevice:
    """A device whose batches wait for `open`; the class of an image is the value of its pixels."""

    pads = False
    computed_as = ComputedAs("a gated device")

    def __init__(self, ahead: int = 0, concurrent_batches: int = 1) -> None:
        self.ahead, self.concurrent_batches = ahead, concurrent_batches
        self.batches: list[list[int]] = []  # the images of every launched batch
        self.pieces: list[int] = []  # number of pieces of memory of each batch
        self.answers = threading.Semaphore(0)
        self.fails_on: int | None = None
        self.fails_late_on: int | None = None
        self.nan_on: set[int] = set()
        self.most = 1000  # most images that fit into its memory
        self.swallows = 0  # number of images that it leaves out

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - part of the protocol
        """Do nothing."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Fail on the value -1. All batch sizes take the same time."""
        if self.fails_on == -1:
            raise RuntimeError("no memory left")
        return {1: 1.0, 1000: 1.0}

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Record the images of a batch."""
        pixels = torch.cat([*pieces])
        values = [int(image[0, 0, 0]) for image in pixels]
        self.batches.append(values)
        self.pieces.append(len(pieces))
        if self.fails_on in values or len(values) > self.most:
            raise RuntimeError("a kernel failed")
        values = values[self.swallows :]
        scores = torch.tensor([[math.nan if value in self.nan_on else 1.0] for value in values])
        rows = {"scores": scores, "classes": torch.tensor(values)[:, None]}
        return PendingBatch(len(values), rows, self._wait(values))

    def _wait(self, values: list[int]) -> Callable[[], BatchTimings]:
        def wait() -> BatchTimings:
            assert self.answers.acquire(timeout=PATIENCE_S)
            if self.fails_late_on in values:
                raise RuntimeError("a kernel failed, and it shows now")
            return BatchTimings(0.0, 1.0)

        return wait

    def open(self, batches: int = 1000) -> None:
        """Let this many batches end."""
        self.answers.release(batches)


class GatedBatcher:
    """A batcher with its device and its queue, and the slots that were given back."""

    def __init__(self, device: GatedDevice, max_batch_size: int = 8) -> None:
        self.device, self.released = device, list[int]()
        self.queue = ReadyQueue(batch_size=max_batch_size, concurrent_batches=device.concurrent_batches)
        self.batcher = Batcher(device, Classify(LABELS), self.queue, max_batch_size=max_batch_size)

    def give_back(self, first: int, count: int) -> None:
        """Record slots that are free again."""
        self.released += range(first, first + count)

    def put(self, *slots: int) -> Future[list[Outcome]]:
        """Queue one request whose images lie in these slots, side by side."""
        request = Request([EncodedImage(b"")] * len(slots))
        pixels = SLOTS[slots[0] : slots[0] + len(slots)]
        geometry = GEOMETRY * len(slots)
        self.queue.put(PixelBatch(slots[0], pixels, request.tasks, geometry, lambda *each: self.give_back(*each)))
        return request.future


@contextmanager
def gated_batcher(device: GatedDevice, max_batch_size: int = 8) -> Iterator[GatedBatcher]:
    """Run a batcher on a gated device while the block runs."""
    batcher = GatedBatcher(device, max_batch_size)
    batcher.batcher.start()
    try:
        yield batcher
    finally:
        device.open()
        batcher.batcher.close()


def classes(future: Future[list[Outcome]]) -> list[int]:
    """Return the class of each image; fail if one was rejected."""
    outcomes = future.result(PATIENCE_S)
    assert all(isinstance(outcome, Prediction) for outcome in outcomes)
    return [outcome.result.indices[0] for outcome in outcomes if isinstance(outcome, Prediction)]
