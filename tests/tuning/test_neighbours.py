"""The settings beside the predicted ones."""

from tests.tuning.measured import BOUND_S, costs
from tuning.capacity import cells
from tuning.neighbours import live, restarted

CELLS = list(cells(costs(), BOUND_S))


def _cell(workers: int, lanes: int, batch: int) -> int:
    return next(number for number, cell in enumerate(CELLS) if cell.key == (workers, lanes, batch))


def test_a_batch_has_a_smaller_and_a_larger_neighbour() -> None:
    assert [cell.key for cell in live(CELLS[_cell(2, 1, 4)], CELLS)] == [(2, 1, 2), (2, 1, 8)]


def test_workers_and_lanes_have_one_more_and_one_less() -> None:
    keys = [cell.key for cell in restarted(CELLS[_cell(2, 2, 4)], CELLS)]
    assert keys == [(1, 2, 4), (3, 2, 4), (2, 1, 4)]


def test_at_the_edge_there_is_one() -> None:
    first = CELLS[_cell(1, 1, 1)]
    assert [cell.key for cell in live(first, CELLS)] == [(1, 1, 2)]
    assert [cell.key for cell in restarted(first, CELLS)] == [(2, 1, 1), (1, 2, 1)]


def test_what_the_machine_does_not_hold_is_no_neighbour() -> None:
    few = [cell for cell in CELLS if cell.workers == 1]
    assert [cell.key for cell in restarted(few[0], few)] == [(1, 2, 1)]
