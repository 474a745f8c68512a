"""Tests of finding the heaviest load that is borne, in few measurements."""

import pytest

from tuning.heaviest_load import HeaviestLoad

RUNGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def _climbed(bears: float, start: int, tries: int = 20) -> tuple[HeaviestLoad[int], list[int]]:
    """Search until enough is known, on a service that bears this load."""
    ladder, tried = HeaviestLoad(RUNGS, start, tries), list[int]()
    while (load := ladder.next()) is not None:
        tried.append(load)
        ladder.note(borne=load <= bears)
    return ladder, tried


@pytest.mark.parametrize("bears", [0, 1, 2, 3, 5, 8, 11, 24, 31, 32, 99])
@pytest.mark.parametrize("start", [0, 1, 4, 7, 32, 99])
def test_the_heaviest_is_found_from_everywhere(bears: int, start: int) -> None:
    """From any start the heaviest load that is borne and the lightest that is not are found; none is measured twice."""
    ladder, tried = _climbed(bears, start)
    assert ladder.heaviest == max((load for load in RUNGS if load <= bears), default=None)
    assert ladder.too_much == min((load for load in RUNGS if load > bears), default=None)
    assert len(set(tried)) == len(tried) <= len(RUNGS)


def test_after_so_many_tries_what_was_borne_is_enough() -> None:
    ladder, tried = _climbed(99, 1, tries=3)
    assert tried == [1, 3, 6]
    assert (ladder.heaviest, ladder.too_much) == (6, None)


def test_until_something_is_borne_it_goes_on() -> None:
    """The search goes down to the lightest load until one is borne, beyond the usual number of tries."""
    ladder, tried = _climbed(1, 32, tries=1)
    assert ladder.heaviest == 1
    assert tried[0] == 32
    nothing, tried = _climbed(0, 32, tries=1)
    assert nothing.heaviest is None
    assert tried[-1] == 1
