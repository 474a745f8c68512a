"""A model whose images differ in size, on the CPU or on a CUDA device: computed as it is, kernel by kernel.

There is no graph, since shapes and the number of boxes differ from batch to batch. On CUDA each image has a copy of its
own, and a batch is computed before `launch` returns, as detectors wait for the device themselves to count their boxes.
On CUDA this has not been measured.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import DeviceFailure
from pipeline.model.device import COMPUTED_BY_MODULES, BatchTimings, ComputedAs, PendingBatch
from pipeline.model.device_module import DeviceModule
from pipeline.pace import warm_seconds

_MIN_TIME_SAVED_SHARE: Final = 0.05
"""Least share of the time per image that a larger batch must save; otherwise larger ones are not tried."""


class EagerDevice:
    """Computes batches of images that differ in size.

    Args:
        device_kind: "cpu" or "cuda".
        module: the model; it is moved to the device.
        batch_sizes: the sizes to warm up, ascending.
        usual: an image of the largest usual size: [1, height, width, 3].
        concurrent_batches: number of batches computed at a time, each in a thread; on CUDA always one.

    Raises:
        DeviceFailure: this process sees no CUDA device.
    """

    ahead = 0
    pads = False

    def __init__(
        self,
        device_kind: str,
        module: DeviceModule,
        batch_sizes: Sequence[int],
        usual: Tensor,
        concurrent_batches: int,
    ) -> None:
        if device_kind == "cuda" and not torch.cuda.is_available():
            raise DeviceFailure("device: cuda was asked for, but this process sees no CUDA device; write auto or cpu")
        self._place = torch.device(device_kind)
        self._module, self._batch_sizes, self._usual = module.eval().to(self._place), batch_sizes, usual
        self.concurrent_batches = concurrent_batches if device_kind == "cpu" else 1
        self.computed_as = ComputedAs(COMPUTED_BY_MODULES)

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - see below
        """Do nothing: page-locking takes memory for every slot at its largest size, and copies are a small part."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Time batches of the largest usual size; larger batches only as long as they save time."""
        if self._place.type == "cpu":
            torch.set_num_threads(1)  # each concurrent batch has a thread of its own
        seconds, best = dict[int, float](), math.inf
        for size in self._batch_sizes:
            seconds[size] = warm_seconds(partial(self._infer, [self._usual] * size))
            if seconds[size] / size > (1 - _MIN_TIME_SAVED_SHARE) * best:
                break
            best = seconds[size] / size
        return seconds

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Compute one batch.

        Args:
            pieces: its images, [1, height, width, 3] each, in host memory.
        """
        began_at = time.perf_counter()
        images = [image.to(self._place, non_blocking=True) for image in pieces]
        copied_at = time.perf_counter()
        rows = self._infer(images)
        timings = BatchTimings(copied_at - began_at, time.perf_counter() - copied_at)
        return PendingBatch(len(images), self._module.named(rows), wait=lambda: timings)

    def _infer(self, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            rows = self._module([image.to(self._place) for image in images])
            return tuple(row.cpu() for row in rows)
