"""Decoded images between the two stages: batches of inputs, and the queue in which they wait for the model."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from torch import Tensor

from pipeline.bounds import BATCHES_AHEAD
from pipeline.errors import ServerError
from pipeline.images.geometry import Geometry
from pipeline.records import FitTransform
from pipeline.task import Task

GiveBack = Callable[[int, int], None]
"""Function that frees slots: takes the number of the first slot, and the number of slots."""


class PixelBatch:
    """Decoded images in adjacent slots, and the tasks that wait for them: `tasks[n]` belongs to `pixels[n]`.

    A batch has one owner at a time: the decode stage, the queue, or a thread of the model stage. The last owner calls
    `release`, also if the images fail or their requests no longer wait.

    Args:
        first: number of the slot of the first image.
        pixels: [n, *shape] as by `Slots.spec`, a view of the slots, page-locked where there is CUDA. For most models
            these are uint8 pixels, [n, height, width, 3].
        tasks: one for each image.
        geometry: one for each image.
        give_back: frees the slots.
    """

    __slots__ = ("_give_back", "first", "geometry", "pixels", "tasks")

    def __init__(
        self, first: int, pixels: Tensor, tasks: Sequence[Task], geometry: Sequence[Geometry], give_back: GiveBack
    ) -> None:
        if not len(pixels) == len(tasks) == len(geometry):
            raise ValueError(
                f"a batch of {len(pixels)} images has {len(tasks)} tasks and {len(geometry)} geometries; it must have "
                "one of each for every image"
            )
        self.first, self.pixels, self.tasks, self.geometry = first, pixels, tasks, geometry
        self._give_back = [give_back]  # empty once the slots have been given back: `pop` is atomic

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.tasks)

    def release(self) -> None:
        """Free the slots: from now on other images are written there. Calls after the first do nothing."""
        with suppress(IndexError):
            self._give_back.pop()(self.first, len(self))

    def fail(self, error: ServerError) -> None:
        """Free the slots, and end every request of the batch with an error of the server."""
        self.release()
        for task in self.tasks:
            task.request.fail(error)

    def singles(self) -> list[Self]:
        """Split the batch into batches of one image. Each of them frees its own slot; the original frees none."""
        try:
            give_back = self._give_back.pop()
        except IndexError:
            raise ValueError("a batch that has given its slots back cannot be split") from None
        return [
            type(self)(self.first + n, self.pixels[n : n + 1], [task], [geometry], give_back)
            for n, (task, geometry) in enumerate(zip(self.tasks, self.geometry, strict=True))
        ]

    def images(self) -> list[Tensor]:
        """Return a view of each image that is smaller than its slot: [1, height, width, 3]."""
        sizes = (place.input_size for place in self.geometry)
        return [
            row[: width * height * 3].view(1, height, width, 3)
            for row, (width, height) in zip(self.pixels, sizes, strict=True)
        ]


def pieces(batches: Sequence[PixelBatch]) -> list[Tensor]:
    """Return the pixels of batches in as few tensors as their slots allow: each costs one copy to the device.

    Images that differ in size are a tensor each.

    Args:
        batches: one batch or more, in the order of their slots.
    """
    if isinstance(batches[0].geometry[0].transform, FitTransform):
        return [image for batch in batches for image in batch.images()]
    views = [batches[0].pixels]
    end = batches[0].first + len(batches[0])
    for batch in batches[1:]:
        if batch.first == end:  # one view over both
            shape = (len(views[-1]) + len(batch), *batch.pixels.shape[1:])
            views[-1] = views[-1].as_strided(shape, batch.pixels.stride())
        else:
            views.append(batch.pixels)
        end = batch.first + len(batch)
    return views


class ReadyQueue:
    """Decoded batches that wait for the model. The queue is passive: both stages call it, and it calls neither.

    Attributes:
        batch_size: most images in a batch of the model; no chunk of the decode stage should be larger.
        concurrent_batches: batches that the model computes at a time.
    """

    def __init__(self, *, batch_size: int, concurrent_batches: int) -> None:
        self.batch_size, self.concurrent_batches = batch_size, concurrent_batches
        self._changed = threading.Condition()  # guards what follows
        self._batches: deque[PixelBatch] = deque()
        self._images = 0
        self._closed_by: ServerError | None = None

    def __len__(self) -> int:
        """Return the number of images that wait."""
        return self._images

    @property
    def capacity_left(self) -> int:
        """Number of images that the queue still has room for; 0 or less if enough images wait to keep the model busy.

        The limit is low because decoded images are no longer ordered fairly between requests: the images of another
        request would wait behind all of them.
        """
        return BATCHES_AHEAD * self.concurrent_batches * self.batch_size - self._images

    def put(self, batch: PixelBatch) -> None:
        """Queue a batch, even if the queue has no room for it. If the queue is closed, the batch fails at once."""
        with self._changed:
            error = self._closed_by
            if error is None:
                self._batches.append(batch)
                self._images += len(batch)
                self._changed.notify()
        if error is not None:
            batch.fail(error)

    def wait(self) -> bool:
        """Wait for a batch; return False once the queue is closed. Another thread may take the batch first."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed_by)
            return self._closed_by is None

    def take(self, most: int, *, at_least: int = 1) -> list[PixelBatch]:
        """Take the oldest batches, without waiting.

        Args:
            most: most images to take; the first batch is taken even if it has more, as a batch is never split.
            at_least: number of images that must wait; if fewer do, none is taken, so that more can join them.
        """
        with self._changed:
            if not self._batches or self._images < at_least:
                return []
            taken = [self._batches.popleft()]
            images = len(taken[0])
            while self._batches and images + len(self._batches[0]) <= most:
                taken.append(self._batches.popleft())
                images += len(taken[-1])
            self._images -= images
        return taken

    def close(self, error: ServerError) -> None:
        """Fail all batches that wait or are put later with `error`; of several calls the first counts."""
        with self._changed:
            self._closed_by = self._closed_by or error
            left, self._batches, self._images = self._batches, deque(), 0
            self._changed.notify_all()
        for batch in left:
            batch.fail(self._closed_by)
