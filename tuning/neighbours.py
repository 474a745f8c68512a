"""The settings beside those that were predicted."""

from collections.abc import Sequence

from tuning.capacity import Cell


def live(chosen: Cell, cells: Sequence[Cell]) -> list[Cell]:
    """Those with the next smaller and the next larger batch: a running replica can be told of them."""
    alike = [cell for cell in cells if (cell.workers, cell.lanes) == (chosen.workers, chosen.lanes)]
    return _beside(alike, [cell.batch for cell in alike], chosen.batch)


def restarted(chosen: Cell, cells: Sequence[Cell]) -> list[Cell]:
    """Those with a worker or a lane more or less: a replica has to be replaced for them."""
    alike = [cell for cell in cells if cell.batch == chosen.batch]
    by_workers = [cell for cell in alike if cell.lanes == chosen.lanes]
    by_lanes = [cell for cell in alike if cell.workers == chosen.workers]
    return [
        *_beside(by_workers, [cell.workers for cell in by_workers], chosen.workers),
        *_beside(by_lanes, [cell.lanes for cell in by_lanes], chosen.lanes),
    ]


def _beside(cells: Sequence[Cell], places: Sequence[int], at: int) -> list[Cell]:
    ordered = sorted(zip(places, cells, strict=True), key=lambda pair: pair[0])
    below = [cell for place, cell in ordered if place < at][-1:]
    above = [cell for place, cell in ordered if place > at][:1]
    return below + above
