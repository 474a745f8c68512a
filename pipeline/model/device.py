"""The device that computes: its protocol, the CPU as one, and which one is opened."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, cast

import torch
from torch import Tensor

from pipeline.host_batch import HostBatch
from pipeline.model.classifier import Classifier
from pipeline.model.cuda import CudaDevice
from pipeline.model.pending_batch import MODULES, Answers, Launched, Spent, collect
from pipeline.model.torchscript import Compute, frozen
from pipeline.pace import warm_seconds

__all__ = ["Answers", "CpuDevice", "CudaDevice", "Device", "Launched", "OpenDevice", "Spent", "collect", "open_device"]

_HOPELESS: Final = 1.25
"""Where a batch takes so many times as long per image as a smaller one, larger ones are not tried on the CPU."""


class Device(Protocol):
    """What the feeder asks of a device. `launch`, and what it returns, is used by one thread a lane."""

    lanes: int  # batches that it computes at a time
    ahead: int  # batches that may wait in a lane behind the one in work
    pads: bool  # whether a batch is filled up to the next of its sizes
    computed_as: str  # how it computes the model, for people; settled by the warm-up

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:
        """Lets the device read `pixels` (host memory) directly; returns what undoes it."""

    def warm_up(self) -> dict[int, float]:
        """Runs the batch sizes, so that no request pays for the first time; returns the seconds of a batch of each.

        Those that are left out are larger than pays.
        """

    def launch(self, batches: Sequence[HostBatch]) -> Launched:
        """Starts one batch made of `batches`, in their order. Their memory is read until `collect` returns."""


class OpenDevice(Protocol):
    """What makes a device: `open_device` below, or a function for another kind."""

    def __call__(
        self, kind: str, classifier: Classifier, *, batch_sizes: Sequence[int], side_px: int, threads: int
    ) -> Device:
        """The device with the model on it."""


def open_device(kind: str, classifier: Classifier, *, batch_sizes: Sequence[int], side_px: int, threads: int) -> Device:
    """The device of that kind, "cpu" or "cuda", with the model on it.

    Raises:
        DeviceFailure: there is none, or the model does not fit on it.
    """
    if kind == "cpu":
        return CpuDevice(classifier, batch_sizes, side_px, threads)
    return CudaDevice(classifier, batch_sizes, side_px)


class CpuDevice:
    """The CPU: launching is computing. Batches are not padded, since no kernel is chosen by shape.

    A lane computes in one thread, the feeder's: batches side by side lose nothing to each other, while torch's own
    threads wait for each other at every kernel. (They spin while they do: beside busy decoders a forward pass went from
    30 ms to 1,400 ms.)

    Args:
        classifier: the model.
        batch_sizes: the sizes to warm.
        side_px: of the images.
        threads: lanes, so many of them.
    """

    ahead = 0
    pads = False

    def __init__(self, classifier: Classifier, batch_sizes: Sequence[int], side_px: int, threads: int) -> None:
        self._classifier, self._compute = classifier, cast(Compute, classifier)
        self._batch_sizes, self._side_px, self.lanes = batch_sizes, side_px, threads
        self.computed_as = MODULES

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - there is no copy to speed up
        """Nothing to do."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Also makes the model a graph, and has torch use no threads of its own, here and in lanes that begin later."""
        torch.set_num_threads(1)
        self._compute = frozen(self._classifier, self._side_px)
        self.computed_as = MODULES if self._compute is self._classifier else "a TorchScript graph"
        pixels = torch.zeros(self._batch_sizes[-1], self._side_px, self._side_px, 3, dtype=torch.uint8)
        seconds, best = dict[int, float](), math.inf
        for size in self._batch_sizes:
            seconds[size] = warm_seconds(partial(self._infer, pixels[:size]))
            if seconds[size] / size > _HOPELESS * best:
                break
            best = min(best, seconds[size] / size)
        return seconds

    def launch(self, batches: Sequence[HostBatch]) -> Launched:
        """Computes."""
        began_at = time.perf_counter()
        pixels = batches[0].pixels if len(batches) == 1 else torch.cat([batch.pixels for batch in batches])
        joined_at = time.perf_counter()
        scores, classes = self._infer(pixels)
        spent = Spent(joined_at - began_at, time.perf_counter() - joined_at)
        return Launched(len(pixels), scores, classes, wait=lambda: spent)

    def _infer(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return self._compute(pixels)
