"""What is expected of every combination of settings, from what is known of the costs so far."""

from typing import Final

from deployments.config import LiveConfig
from tuning.capacity import Cell, Costs, best, cells
from tuning.choice import Sizes, settings_for
from tuning.room import Room
from tuning.settings import Settings

AS_MUCH: Final = 0.95
"""Of the peak, what a larger batch has to reach; that it is handed over less often is not in it."""


class Refused(Exception):
    """There are no settings to be had; the message says why, and what to do."""


class Forecast:
    """All combinations, and those of them that the memory holds.

    Args:
        costs: as measured.
        sizes: of the images.
        live: the limits that stay as they are.
        bound_s: within which 99 % should be answered.
        room: the memory.
    """

    def __init__(self, costs: Costs, sizes: Sizes, live: LiveConfig, bound_s: float, room: Room) -> None:
        self.costs, self._sizes, self._live, self._bound_s, self._room = costs, sizes, live, bound_s, room
        self.cells = list(cells(costs, bound_s))
        self.candidates = [cell for cell in self.cells if room.holds(self.settings(cell))]

    def revised(self, costs: Costs) -> "Forecast":
        """What to expect now that the costs are better known."""
        return Forecast(costs, self._sizes, self._live, self._bound_s, self._room)

    def settings(self, cell: Cell) -> Settings:
        """All that goes with a combination."""
        return settings_for(cell, self.costs, self._sizes, self._live, self._bound_s)

    def like(self, workers: int, lanes: int, batch: int) -> Cell:
        """One of the combinations."""
        return next(cell for cell in self.cells if cell.key == (workers, lanes, batch))

    def best(self) -> Cell:
        """The combination that should do the most, with as large a batch as does no harm.

        Batches are of what waits: while little does, a larger one is never filled, and where much does, it saves.

        Raises:
            Refused: the memory holds none, or none keeps the bound.
        """
        if not self.candidates:
            raise Refused(self._too_little_memory())
        found = best(self.candidates)
        if not found.capacity:
            least_s = min(cell.own_s for cell in self.candidates)
            raise Refused(
                f"no settings answer 99 % within {1000 * self._bound_s:g} ms here: an image takes "
                f"{1000 * least_s:.3g} ms through decoding and the model without any waiting; write a larger --p99-ms"
            )
        may_wait_s = self.settings(found).max_wait_s
        return max(
            (
                cell
                for cell in self.candidates
                if (cell.workers, cell.lanes) == (found.workers, found.lanes)
                and cell.peak >= AS_MUCH * found.peak
                and self.settings(cell).max_wait_s >= may_wait_s
            ),
            key=lambda cell: cell.batch,
        )

    def left_out(self) -> list[str]:
        """What the memory does not hold, in words."""
        too_large = len(self.cells) - len(self.candidates)
        return [f"{too_large} of {len(self.cells)} combinations need more memory than there is"] if too_large else []

    def _too_little_memory(self) -> str:
        least = min(self._room.needed_bytes(self.settings(cell)) for cell in self.cells)
        return (
            f"too little memory: {self._room.available_bytes >> 20} MiB can be had, and a replica with one worker may "
            f"take {least >> 20} MiB where an image may have {self._live.max_image_pixels} pixels; write a smaller "
            "max_image_pixels or max_request_bytes"
        )
