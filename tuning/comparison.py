"""Decides whether the predicted settings are better than those of the configuration, by more than chance.

If the difference is within the noise, the settings of the configuration stay. The noise is the difference between runs
of the same settings, and the difference between the machine's speeds during the runs of the two settings.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tuning.trials import Trial

MIN_GAIN_SHARE: Final = 0.03
"""Share by which the predicted settings have to be better at least, however little runs differ."""

STANDARD_ERRORS: Final = 2.0
"""Standard errors of the difference by which the predicted settings have to be better."""

MIN_PEAK_SHARE: Final = 0.97
"""Share of the present settings' peak that they must reach, where they are chosen for the images within a bound."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Images answered a second within the bound, with the settings of the configuration and with the predicted ones."""

    present: float
    predicted: float
    noise: float  # share by which the predicted settings have to be better
    keeps_peak: bool  # whether they answer as much at full load

    @property
    def gain(self) -> float:
        """Share by which the predicted settings are better; below 0 where they are worse."""
        return self.predicted / self.present - 1 if self.present else math.inf if self.predicted else 0.0

    @property
    def is_better(self) -> bool:
        """True if the predicted settings take the place of those of the configuration."""
        return self.gain > self.noise and self.keeps_peak


def compare(present: Sequence[Trial], predicted: Sequence[Trial]) -> Comparison:
    """Compare two settings by the trials of each."""
    goods = [[trial.within.good for trial in trials] for trials in (present, predicted)]
    peaks = [statistics.fmean(trial.full.answered for trial in trials) for trials in (present, predicted)]
    speeds = [statistics.fmean(trial.speed for trial in trials) for trials in (present, predicted)]
    means = [statistics.fmean(good) for good in goods]
    error = math.hypot(*map(_standard_error, goods))
    noise = max(MIN_GAIN_SHARE, STANDARD_ERRORS * error / means[0] if means[0] else 0.0, max(speeds) / min(speeds) - 1)
    return Comparison(means[0], means[1], noise, keeps_peak=peaks[1] >= MIN_PEAK_SHARE * peaks[0])


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
