"""The predicted settings against a neighbour."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from tests.tuning.test_document import SETTINGS
from tuning.check import Check, Seen
from tuning.computing import Model
from tuning.duel import RUNS, Duel
from tuning.settings import Settings
from tuning.trials import Trials

OTHER = replace(SETTINGS, batch=SETTINGS.batch + 1)
DUEL = Duel(SETTINGS, OTHER)


def _seen(settings: Settings, good: float) -> Seen:
    """On a machine that is half as fast as it was."""
    return Seen(settings, 100.0, good, good / 2, p50_s=0.05, p99_s=0.1, refused=0.0, lost=0, late_s=0.0, speed=0.5)


def _winner(before: tuple[float, float], predicted: Sequence[float], challenger: Sequence[float]) -> Settings:
    """After a run of each by which they were picked."""
    trials = Trials(cast(Check, None), cast(Model, None), speed_s=0.1, check_s=1.0)
    trials.seen += [_seen(SETTINGS, before[0]), _seen(OTHER, before[1])]
    runs = {SETTINGS: iter(predicted), OTHER: iter(challenger)}
    trials.seen += [_seen(settings, next(runs[settings])) for settings in DUEL.turns]
    return DUEL.winner(trials.score)


def test_each_has_as_many_runs() -> None:
    assert DUEL.turns.count(SETTINGS) == DUEL.turns.count(OTHER) == RUNS == len(DUEL.turns) / 2


@pytest.mark.parametrize(
    ("before", "predicted", "challenger", "winner"),
    [
        ((80.0, 85.0), (80.0, 80.0, 80.0), (85.0, 85.0, 85.0), OTHER),
        ((80.0, 85.0), (80.0, 80.0, 80.0), (83.0, 83.0, 83.0), SETTINGS),  # no more than by chance
        ((80.0, 85.0), (80.0, 80.0, 80.0), (81.0, 77.0, 79.0), SETTINGS),
        ((40.0, 160.0), (80.0, 80.0, 80.0), (80.0, 80.0, 80.0), SETTINGS),  # luck, and none
        ((80.0, 85.0), (70.0, 80.0, 90.0), (90.0, 80.0, 85.0), OTHER),  # on average
        ((80.0, 85.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), SETTINGS),
    ],
)
def test_a_neighbour_has_to_be_better_in_the_duel_itself(
    before: tuple[float, float], predicted: Sequence[float], challenger: Sequence[float], winner: Settings
) -> None:
    """What was seen before it does not count, however good or bad it was."""
    assert _winner(before, predicted, challenger) == winner
