"""Predictions for all combinations of settings, from the costs known so far."""

import math
from typing import Final

from tuning.capacity import Cell, Costs, best, cell, cells
from tuning.derived_settings import Sizes, longest_wait_s, settings_for
from tuning.replica_memory import ReplicaMemory
from tuning.replica_settings import Settings

MIN_PEAK_SHARE: Final = 0.95
"""Share of the peak that a larger batch has to reach; its cheaper hand-over is not counted."""


class Refused(Exception):
    """No settings can be recommended; the message says why, and what to do."""


class Forecast:
    """Predictions for all combinations, and those of them that fit into the memory.

    Args:
        costs: the measured costs.
        sizes: encoded bytes of the images.
        present: present settings.
        bound_s: time within which 99 % of the answers should come.
        memory: available memory, and needs of a replica.
    """

    def __init__(self, costs: Costs, sizes: Sizes, present: Settings, bound_s: float, memory: ReplicaMemory) -> None:
        self.costs, self._sizes, self._present, self._bound_s, self._memory = costs, sizes, present, bound_s, memory
        self.cells = list(cells(costs, bound_s))
        self.candidates = [cell for cell in self.cells if memory.holds(self.settings(cell))]

    def revised(self, costs: Costs) -> "Forecast":
        """Predict again from better known costs."""
        return Forecast(costs, self._sizes, self._present, self._bound_s, self._memory)

    def settings(self, cell: Cell) -> Settings:
        """Derive all settings from a combination."""
        return settings_for(cell, self.costs, self._sizes, self._present, self._bound_s)

    def nearest(self, settings: Settings) -> Cell:
        """Find the measured combination that settings correspond to: larger batches are never filled."""
        compute = self.costs.compute
        concurrent_batches = max(
            (
                concurrent_batches
                for concurrent_batches in compute.concurrent_batches
                if concurrent_batches <= settings.concurrent_batches
            ),
            default=compute.concurrent_batches[0],
        )
        batch = max((size for size in compute.sizes if size <= settings.batch), default=compute.sizes[0])
        return cell(self.costs, settings.decode_workers, concurrent_batches, batch, self._bound_s)

    def best(self) -> Cell:
        """Choose the combination with the most images a second, with the largest batch that does no harm.

        Batches consist of waiting images: with few of them a larger batch is never filled, with many it saves time.

        Raises:
            Refused: no combination fits into the memory, or none keeps the bound.
        """
        if not self.candidates:
            raise Refused(self._too_little_memory())
        found = best(self.candidates)
        if not found.capacity:
            least_s = min(cell.request_s for cell in self.candidates)
            what = (
                "an image takes"
                if self.costs.images_per_request == 1
                else f"{self.costs.images_per_request} images take"
            )
            raise Refused(
                f"--p99-ms {1000 * self._bound_s:g} cannot be met on this machine: {what} at least "
                f"{1000 * least_s:.3g} ms to decode and compute, even when nothing else is in work. Nothing was "
                f"changed. Give a larger --p99-ms, {_rounded_up(4000 * least_s)} or more, or none"
            )
        wait_s = longest_wait_s(found, self.costs, self._bound_s)
        return max(
            (
                cell
                for cell in self.candidates
                if (cell.decode_workers, cell.concurrent_batches) == (found.decode_workers, found.concurrent_batches)
                and cell.peak >= MIN_PEAK_SHARE * found.peak
                and longest_wait_s(cell, self.costs, self._bound_s) >= wait_s
            ),
            key=lambda cell: cell.batch,
        )

    def left_out(self) -> list[str]:
        """Describe how many combinations need more memory than there is."""
        too_large = len(self.cells) - len(self.candidates)
        words = "combinations of workers, concurrent batches and batch size were left out: they need too much memory"
        return [f"{too_large} of {len(self.cells)} {words}"] if too_large else []

    def _too_little_memory(self) -> str:
        least = min(self._memory.needed_bytes(self.settings(cell)) for cell in self.cells)
        return (
            f"too little memory: {self._memory.available_bytes >> 20} MiB are free, and a replica with one worker may "
            f"take {least >> 20} MiB where an image may have {self._memory.live.max_image_pixels} pixels; write a "
            "smaller max_image_pixels or max_bytes_in_flight"
        )


def _rounded_up(milliseconds: float) -> int:
    """Round up to a whole number with two significant digits."""
    step = max(1, 10 ** (math.floor(math.log10(max(1.0, milliseconds))) - 1))
    return int(math.ceil(milliseconds / step) * step)
