"""Decoded images between the two stages: batches of pixels, and the queue in which they wait for the model."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

import torch
from torch import Tensor

from pipeline.config import BATCHES_AHEAD
from pipeline.errors import ServerError
from pipeline.images.geometry import Geometry
from pipeline.task import Task

GiveBack = Callable[[int, int], None]
"""Takes slots back: the number of the first, and how many."""


class PixelBatch:
    """Decoded images in adjacent slots, and the tasks that wait for them: `tasks[n]` belongs to `pixels[n]`.

    It has one owner at a time: the decode stage, the queue, or a thread of the model stage. Whoever owns it last calls
    `release`, also where the images fail or nobody waits for them any more.

    Args:
        first: number of the slot of the first image.
        pixels: uint8 [n, height, width, 3], a view of the slots, page-locked where there is CUDA.
        tasks: one for each image.
        geometry: of each image.
        give_back: takes the slots back.
    """

    __slots__ = ("_give_back", "first", "geometry", "pixels", "tasks")

    def __init__(
        self, first: int, pixels: Tensor, tasks: Sequence[Task], geometry: Sequence[Geometry], give_back: GiveBack
    ) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            shape = [*pixels.shape]
            raise ValueError(f"pixels must be uint8 [n, height, width, 3], not {pixels.dtype} {shape}")
        if not len(pixels) == len(tasks) == len(geometry):
            raise ValueError(
                f"a batch of {len(pixels)} images has {len(tasks)} tasks and {len(geometry)} geometries; it must have "
                "one of each for every image"
            )
        self.first, self.pixels, self.tasks, self.geometry = first, pixels, tasks, geometry
        self._give_back = [give_back]  # empty once the slots have been given back: `pop` is atomic

    def __len__(self) -> int:
        """Number of images."""
        return len(self.tasks)

    def release(self) -> None:
        """Gives the slots back: from now on other images are written there. Calls after the first do nothing."""
        with suppress(IndexError):
            self._give_back.pop()(self.first, len(self))

    def fail(self, error: ServerError) -> None:
        """Gives the slots back and ends every request of the batch with an error that is not its own."""
        self.release()
        for task in self.tasks:
            task.request.fail(error)

    def singles(self) -> list[Self]:
        """Splits the batch into its images, each of which gives its own slot back; the whole gives nothing back."""
        try:
            give_back = self._give_back.pop()
        except IndexError:
            raise ValueError("a batch that has given its slots back cannot be split") from None
        return [
            type(self)(self.first + n, self.pixels[n : n + 1], [task], [geometry], give_back)
            for n, (task, geometry) in enumerate(zip(self.tasks, self.geometry, strict=True))
        ]


def pieces(batches: Sequence[PixelBatch]) -> list[Tensor]:
    """The pixels of batches, in as few tensors as their slots allow: each costs one copy to the device.

    Args:
        batches: one or more, by rising slots.
    """
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
    """Decoded batches that wait for the model. It is passive: the stages on both sides call it, and it calls neither.

    Attributes:
        batch_size: images that the model takes at once; no chunk of the decode stage should be larger.
        concurrent batches: batches that the model computes at a time.
    """

    def __init__(self, *, batch_size: int, concurrent_batches: int) -> None:
        self.batch_size, self.concurrent_batches = batch_size, concurrent_batches
        self._changed = threading.Condition()  # guards what follows
        self._batches: deque[PixelBatch] = deque()
        self._images = 0
        self._closed_by: ServerError | None = None

    def __len__(self) -> int:
        """How many images wait."""
        return self._images

    @property
    def room(self) -> int:
        """Images that are still wanted; 0 or less where enough wait that the model need not wait.

        An image that is decoded further ahead has no turn any more: those of another request would wait behind it.
        """
        return BATCHES_AHEAD * self.concurrent_batches * self.batch_size - self._images

    def put(self, batch: PixelBatch) -> None:
        """Queues a batch, also where there is no room for it; where the queue is closed, the batch fails at once."""
        with self._changed:
            error = self._closed_by
            if error is None:
                self._batches.append(batch)
                self._images += len(batch)
                self._changed.notify()
        if error is not None:
            batch.fail(error)

    def wait(self) -> bool:
        """Waits until a batch is there; False once the queue is closed. Another thread may take it first."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed_by)
            return self._closed_by is None

    def take(self, most: int, *, at_least: int = 1) -> list[PixelBatch]:
        """Takes the oldest batches, without waiting.

        Args:
            most: images; the first batch is taken even if it has more, as a batch is never split.
            at_least: where fewer images wait, they are left to grow, and none is taken.
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
        """Fails all that waits, and all that is put from now on, with `error`; of several calls the first counts."""
        with self._changed:
            self._closed_by = self._closed_by or error
            left, self._batches, self._images = self._batches, deque(), 0
            self._changed.notify_all()
        for batch in left:
            batch.fail(self._closed_by)
