"""Decides whether other settings are better than those that the configuration has, by more than chance.

Of several noisy figures the greatest is one that had luck, and the one to which it was compared may have had none. So
what is known of both is forgotten, and they are measured anew. Where the difference is within the noise, the settings
that are there stay. The noise is what runs of the same settings differ by, and what the machine was faster for one of
both than for the other.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tuning.settings import Settings

RUNS: Final = 3
"""Runs of each."""

WORTH: Final = 0.03
"""Share by which the challenger has to be better at least, however little runs differ."""

ERRORS: Final = 2.0
"""Standard errors of the difference by which it has to be better."""

AS_MUCH: Final = 0.97
"""Share of the peak of the others that the challenger must reach, where it is chosen for what it does in a bound."""


@dataclass(frozen=True, slots=True)
class Duel:
    """Between settings that are told apart.

    Args:
        present: those of the configuration; they stay unless the others are better by more than chance.
        challenger: the most promising of the others.
        runs: of each.
    """

    present: Settings
    challenger: Settings
    runs: int = RUNS

    @property
    def turns(self) -> list[Settings]:
        """The order of the runs: about as early as late, with few changes, and the challenger last."""
        first = -(-self.runs // 2)
        one, other = [self.challenger], [self.present]
        return one * first + other * self.runs + one * (self.runs - first)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a duel; figures are images a second."""

    present: float
    challenger: float
    noise: float  # share by which the challenger has to be better
    keeps_peak: bool

    @property
    def gain(self) -> float:
        """Share by which the challenger is better; below 0 where it is worse."""
        return self.challenger / self.present - 1 if self.present else math.inf if self.challenger else 0.0

    @property
    def is_won(self) -> bool:
        """Whether the challenger takes the place of what was there."""
        return self.gain > self.noise and self.keeps_peak


def outcome(
    present: Sequence[float],
    challenger: Sequence[float],
    peaks: tuple[Sequence[float], Sequence[float]],
    speeds: tuple[Sequence[float], Sequence[float]],
) -> Outcome:
    """Compares two settings by the runs of each.

    Args:
        present: images a second within the bound, in each run.
        challenger: likewise.
        peaks: of both, at full load, in each run.
        speeds: of the machine, beside each run of both.
    """
    means = statistics.fmean(present), statistics.fmean(challenger)
    error = math.hypot(_standard_error(present), _standard_error(challenger))
    slower, faster = sorted(map(statistics.fmean, speeds))
    noise = max(WORTH, ERRORS * error / means[0] if means[0] else 0.0, faster / slower - 1)
    keeps_peak = statistics.fmean(peaks[1]) >= AS_MUCH * statistics.fmean(peaks[0])
    return Outcome(*means, noise, keeps_peak)


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
