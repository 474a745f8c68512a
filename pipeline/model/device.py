"""The device that runs the model: its protocol, and a batch on its way through it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from torch import Tensor

COMPUTED_BY_MODULES: Final = "modules, kernel by kernel"
"""Description of the slowest way to compute a model, for which nothing has to be prepared."""


@dataclass(frozen=True, slots=True)
class BatchTimings:
    """Seconds that the device spent on a batch, without the time that the batch waited."""

    copy_s: float  # pixels -> one piece of the device's memory
    model_s: float


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """What the head needs of a batch."""

    rows: Mapping[str, Tensor]  # as by `Head.on_device`, [images, ...] each, in host memory
    timings: BatchTimings


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch on its way through the device."""

    images: int
    rows: Mapping[str, Tensor]  # [images or more, ...] each, in host memory, to be read once the device is done
    wait: Callable[[], BatchTimings]  # until the device is done


def collect(pending: PendingBatch) -> BatchOutput:
    """Waits for a batch, and returns what came of its images without padding."""
    timings = pending.wait()
    return BatchOutput({name: rows[: pending.images] for name, rows in pending.rows.items()}, timings)


class Device(Protocol):
    """Runs the model on batches of pixels. `launch`, and what it returns, is used by one thread a concurrent batch."""

    concurrent_batches: int  # batches that it computes at a time
    ahead: int  # batches that may wait in a concurrent batch behind the one in work
    pads: bool  # whether a batch is filled up to the next of its sizes
    computed_as: str  # how it computes the model, for people; settled by the warm-up

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:
        """Lets the device read `pixels` (host memory) directly; returns what undoes it."""

    def warm_up(self) -> dict[int, float]:
        """Runs the batch sizes, so that no request pays for the first time; returns the seconds of a batch of each.

        Those that are left out are larger than pays.
        """

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Starts one batch.

        Args:
            pieces: its images, in this order: uint8 [n, height, width, 3] in host memory, page-locked where that helps.
                They are read until `collect` returns.
        """
