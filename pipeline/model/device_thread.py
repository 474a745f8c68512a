"""One concurrent batch of a device: the batch that it computes, and the batches launched ahead of their turn."""

from collections import deque
from dataclasses import dataclass

from pipeline.model.device import PendingBatch
from pipeline.ready_queue import PixelBatch


@dataclass(frozen=True, slots=True)
class InFlight:
    """Images on the device."""

    work: list[PixelBatch]
    pending: PendingBatch
    launched_at: float  # by `time.perf_counter`

    @property
    def images(self) -> int:
        """How many."""
        return sum(map(len, self.work))


class DeviceThread:
    """One of the batches that a device computes at a time, and those that it is given ahead behind it."""

    def __init__(self) -> None:
        self.in_flight: deque[InFlight] = deque()
        self.singles: list[
            PixelBatch
        ] = []  # images of a batch that the model failed on, while one after another is tried
        self.images = 0  # that it has been given and has not answered
        self.turned_at = 0.0  # when it was last given a batch, or last answered one, by `time.monotonic`
        self.free_at = 0.0  # when it last had a batch behind it, by `time.perf_counter`
        self.busy_since = 0.0  # when it began the batch that it computes, likewise; 0 while it has none
