"""The protocol of a device that runs the model, and the records of a batch on the device."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from torch import Tensor

COMPUTED_BY_MODULES: Final = "modules, kernel by kernel"
"""Description of the slowest way to compute a model, which needs no preparation."""


@dataclass(frozen=True, slots=True)
class DeviceTrial:
    """One of the ways to compute the model that were compared at the start.

    Attributes:
        runtime: name of the runtime.
        dtype: name of the number format.
        image_s: seconds of an image on one core, in the better of the batch sizes tried; None if it was not measured.
        difference: largest difference of a score from the model's own in float32; None if it was not measured.
        prepare_s: seconds that it took to make the model ready.
        refused: reason why it is not taken, whatever its speed; empty if there is none.
    """

    runtime: str
    dtype: str
    image_s: float | None = None
    difference: float | None = None
    prepare_s: float = 0.0
    refused: str = ""

    def __str__(self) -> str:
        """Describe the trial in one line."""
        if self.image_s is None:
            return f"{self.runtime} in {self.dtype} is not used: {self.refused}"
        off = "" if self.difference is None else f", scores differ by up to {self.difference:.2g}"
        return f"{self.runtime} in {self.dtype}: {1e3 * self.image_s:.1f} ms an image on one core{off}"


@dataclass(frozen=True, slots=True)
class ComputedAs:
    """Description of how a device computes the model.

    Attributes:
        way: description for people, e.g. "CUDA graphs".
        runtime: name of the runtime, a value of the setting `runtime`.
        dtype: name of the number format, a value of the setting `dtype`.
        trials: the ways that were compared, if any were, this one included.
    """

    way: str
    runtime: str = "torch"
    dtype: str = "float32"
    trials: tuple[DeviceTrial, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchTimings:
    """Seconds that the device spent on a batch, without the time that the batch waited."""

    copy_s: float  # pixels -> a buffer in the device's memory
    model_s: float


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """Output of the device for a batch, as input of the head."""

    rows: Mapping[str, Tensor]  # as by `Head.on_device`, [images, ...] each, in host memory
    timings: BatchTimings

    def not_finite(self) -> set[int]:
        """Return the positions of images with a float that is not finite, such as the NaN of softmax."""
        floats = [tensor for tensor in self.rows.values() if tensor.is_floating_point()]
        if all(math.isfinite(tensor.sum().item()) for tensor in floats):  # quick: one operator
            return set()
        return {int(row) for tensor in floats for row in (~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()}


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch that the device has not finished."""

    images: int
    rows: Mapping[str, Tensor]  # [images or more, ...] each, in host memory; valid after `wait`
    wait: Callable[[], BatchTimings]  # waits until the device is done


def collect(pending: PendingBatch) -> BatchOutput:
    """Wait for a batch; return the output of its images, without padding."""
    timings = pending.wait()
    return BatchOutput({name: rows[: pending.images] for name, rows in pending.rows.items()}, timings)


class Device(Protocol):
    """Runs the model on batches of pixels. One thread per concurrent batch calls `launch` and waits for its result."""

    concurrent_batches: int  # batches computed at a time
    ahead: int  # batches that may be launched behind each one in work
    pads: bool  # whether a batch is padded to the next batch size
    computed_as: ComputedAs  # final after the warm-up

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:
        """Let the device read `pixels` (host memory) directly; return a function that undoes this."""

    def warm_up(self) -> dict[int, float]:
        """Run all batch sizes, so that no request waits for a first run; return the seconds of a batch by its size.

        Sizes may be missing if a smaller one already has a better throughput.
        """

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Start one batch.

        Args:
            pieces: its images, in this order: [n, *shape] in host memory, page-locked where that helps; the shape and
                the number format are those of the `InputSpec` with which the device was opened. The device reads them
                until `collect` returns.
        """
