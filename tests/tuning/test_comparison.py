"""Tests of comparing the configured settings with the predicted ones."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.tuning.measured import PRESENT, seen
from tuning.comparison import MIN_GAIN_SHARE, MIN_PEAK_SHARE, Comparison, compare
from tuning.trials import Trial

OTHER = replace(PRESENT, batch=2)


def _compared(
    present: Sequence[float],
    predicted: Sequence[float],
    *,
    peaks: tuple[float, float] = (90.0, 90.0),
    speeds: tuple[float, float] = (1.0, 1.0),
) -> Comparison:
    return compare(
        *(
            [
                Trial(
                    settings,
                    replace(seen(settings, good=good), speed=speed),
                    replace(seen(settings, offered=peak), speed=speed),
                )
                for good in goods
            ]
            for settings, goods, peak, speed in zip((PRESENT, OTHER), (present, predicted), peaks, speeds, strict=True)
        )
    )


@pytest.mark.parametrize(
    ("present", "predicted", "is_better"),
    [
        ((80.0, 80.0, 80.0), (85.0, 85.0, 85.0), True),
        ((80.0, 80.0, 80.0), (82.0, 82.0, 82.0), False),  # a difference that may be chance
        ((80.0, 80.0, 80.0), (81.0, 77.0, 79.0), False),
        ((70.0, 80.0, 90.0), (95.0, 75.0, 85.0), False),  # runs of the same settings differ by more
        ((0.0, 0.0, 0.0), (80.0, 80.0, 80.0), True),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), False),
        ((80.0,), (85.0,), True),
    ],
    ids=str,
)
def test_present_settings_stay_unless_others_are_better_by_more_than_chance(
    present: Sequence[float], predicted: Sequence[float], is_better: bool
) -> None:
    assert _compared(present, predicted).is_better is is_better


def test_a_machine_that_was_faster_for_one_of_both_proves_nothing() -> None:
    """A difference no larger than that of the machine's speed proves nothing, whichever settings it favoured."""
    for speeds in ((1.0, 1.2), (1.2, 1.0)):
        assert not _compared([80.0], [90.0], speeds=speeds).is_better
        assert _compared([80.0], [97.0], speeds=speeds).is_better


@pytest.mark.parametrize(("peak", "is_better"), [(80.0 * MIN_PEAK_SHARE, True), (79.0 * MIN_PEAK_SHARE, False)])
def test_settings_that_are_better_within_a_bound_have_to_reach_the_peak_too(peak: float, is_better: bool) -> None:
    """Settings that are better within a bound must reach the peak too: a recommendation is worse in no measurement."""
    assert _compared([40.0], [50.0], peaks=(80.0, peak)).is_better is is_better


def test_the_gain_is_a_share() -> None:
    shown = _compared([80.0, 80.0], [72.0, 72.0])
    assert shown.gain == pytest.approx(-0.1)
    assert shown.noise == MIN_GAIN_SHARE
    assert _compared([0.0], [1.0]).gain == math.inf
