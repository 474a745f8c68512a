"""The settings of the configuration against others."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.tuning.measured import PRESENT
from tuning.duel import AS_MUCH, WORTH, Duel, outcome

OTHER = replace(PRESENT, batch=2)
STEADY = [1.0, 1.0, 1.0]
LEVEL = ([80.0], [80.0])


@pytest.mark.parametrize("runs", [2, 3, 4])
def test_each_has_as_many_runs_and_settings_change_twice(runs: int) -> None:
    """The others come first and last: should they win, they are in force then."""
    turns = Duel(PRESENT, OTHER, runs).turns
    assert turns.count(PRESENT) == turns.count(OTHER) == runs
    assert (turns[0], turns[-1]) == (OTHER, OTHER)
    assert sum(one != other for one, other in itertools.pairwise(turns)) == 2


@pytest.mark.parametrize(
    ("present", "challenger", "is_won"),
    [
        ((80.0, 80.0, 80.0), (85.0, 85.0, 85.0), True),
        ((80.0, 80.0, 80.0), (82.0, 82.0, 82.0), False),  # no more than by chance
        ((80.0, 80.0, 80.0), (81.0, 77.0, 79.0), False),
        ((70.0, 80.0, 90.0), (95.0, 75.0, 85.0), False),  # runs of the same settings differ by more
        ((0.0, 0.0, 0.0), (80.0, 80.0, 80.0), True),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), False),
        ((80.0,), (85.0,), True),
    ],
    ids=str,
)
def test_what_is_there_stays_unless_the_other_is_better_by_more_than_chance(
    present: Sequence[float], challenger: Sequence[float], is_won: bool
) -> None:
    assert outcome(present, challenger, LEVEL, (STEADY, STEADY)).is_won is is_won


def test_a_machine_that_was_faster_for_one_of_both_proves_nothing() -> None:
    """By as much as it was faster, whichever of both had the luck."""
    for speeds in (([1.0], [1.2]), ([1.2], [1.0])):
        assert not outcome([80.0], [90.0], LEVEL, speeds).is_won
        assert outcome([80.0], [97.0], LEVEL, speeds).is_won


@pytest.mark.parametrize(("peak", "is_won"), [(80.0 * AS_MUCH, True), (79.0 * AS_MUCH, False)])
def test_who_is_better_in_a_bound_has_to_reach_the_peak_too(peak: float, is_won: bool) -> None:
    """A recommendation is worse in nothing that was measured."""
    assert outcome([40.0], [50.0], ([80.0], [peak]), (STEADY, STEADY)).is_won is is_won


def test_the_gain_is_a_share() -> None:
    shown = outcome([80.0, 80.0], [72.0, 72.0], LEVEL, (STEADY, STEADY))
    assert shown.gain == pytest.approx(-0.1)
    assert shown.noise == WORTH
    assert outcome([0.0], [1.0], LEVEL, (STEADY, STEADY)).gain == math.inf
