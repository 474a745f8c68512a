"""State of one thread of the model stage: the batch in work on the device, and batches launched ahead."""

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
        """Number of images in the batch."""
        return sum(map(len, self.work))


class DeviceThread:
    """State of one thread of the model stage: its batch in work, and those launched ahead behind it."""

    def __init__(self) -> None:
        self.in_flight: deque[InFlight] = deque()
        self.singles: list[PixelBatch] = []  # images of a failed batch, while they are tried one by one
        self.images = 0  # launched and not answered yet
        self.turned_at = 0.0  # when a batch was last launched or answered, by `time.monotonic`
        self.free_at = 0.0  # when a batch was last collected, by `time.perf_counter`
        self.busy_since = 0.0  # when the batch in work was begun, by `time.perf_counter`; 0 while there is none
