"""Tests of finding the heaviest load within a bound, in few measurements."""

import pytest

from tuning.heaviest_load import HeaviestLoad

RUNGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def _climbed(capacity: float, start: int, tries: int = 20) -> tuple[HeaviestLoad[int], list[int]]:
    """Search until enough is known, on a service with this capacity."""
    ladder, tried = HeaviestLoad(RUNGS, start, tries), list[int]()
    while (load := ladder.next()) is not None:
        tried.append(load)
        ladder.note(within=load <= capacity)
    return ladder, tried


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 8, 11, 24, 31, 32, 99])
@pytest.mark.parametrize("start", [0, 1, 4, 7, 32, 99])
def test_the_heaviest_is_found_from_everywhere(capacity: int, start: int) -> None:
    """From any start the search finds the heaviest load within the bound and the lightest beyond it; none twice."""
    ladder, tried = _climbed(capacity, start)
    assert ladder.heaviest == max((load for load in RUNGS if load <= capacity), default=None)
    assert ladder.too_much == min((load for load in RUNGS if load > capacity), default=None)
    assert len(set(tried)) == len(tried) <= len(RUNGS)


def test_after_so_many_tries_a_load_within_the_bound_is_enough() -> None:
    ladder, tried = _climbed(99, 1, tries=3)
    assert tried == [1, 3, 6]
    assert (ladder.heaviest, ladder.too_much) == (6, None)


def test_it_goes_on_until_a_load_is_within_the_bound() -> None:
    """The search goes down to the lightest load until one is within the bound, beyond the usual number of tries."""
    ladder, tried = _climbed(1, 32, tries=1)
    assert ladder.heaviest == 1
    assert tried[0] == 32
    nothing, tried = _climbed(0, 32, tries=1)
    assert nothing.heaviest is None
    assert tried[-1] == 1
