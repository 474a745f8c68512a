"""Settings against each other, on one service, while the machine is now faster and now slower."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from tuning.check import Check, Seen
from tuning.computing import Model
from tuning.settings import Settings

MORE_THAN_FITS: Final = 1.2
"""Times the peak: what comes while settings are compared by what they answer in time."""

Measured = TypeVar("Measured")


class Trials:
    """Offers each setting more than fits, and counts what is answered in time.

    How fast the machine is just then, is measured before and after by the model alone; all figures are put on the speed
    at which costs were measured, and what is offered follows it too.

    Args:
        check: a service that runs.
        model: by which the speed is measured.
        speed_s: for how long, each time.
        check_s: for how long requests come.
    """

    def __init__(self, check: Check, model: Model, *, speed_s: float, check_s: float) -> None:
        self.check, self.peak = check, 0.0
        self.seen: list[Seen] = []
        self._model, self._speed_s, self._check_s = model, speed_s, check_s

    def measure_peak(self, clients: int) -> None:
        """Answers a second to so many clients that wait for each."""
        peak, speed = self._beside_speed(lambda _: self.check.peak(clients, self._check_s))
        self.peak = peak / speed

    def run(self, settings: Settings) -> Seen:
        """Applies settings, and notes what comes back."""
        self.check.apply(settings)
        seen, speed = self._beside_speed(
            lambda before: self.check.seen(settings, MORE_THAN_FITS * self.peak * before, self._check_s)
        )
        self.seen.append(replace(seen, speed=speed))
        return self.seen[-1]

    def score(self, settings: Settings, last: int | None = None) -> float:
        """Answers in time a second, of all its runs on average, or of so many last ones; 0 where there were none."""
        scores = [seen.good / seen.speed for seen in self.seen if seen.settings == settings]
        return statistics.fmean(scores[-(last or len(scores)) :]) if scores else 0.0

    def best(self) -> Settings:
        """Those with the most answers in time, of those that were run."""
        return max((seen.settings for seen in self.seen), key=self.score)

    def _beside_speed(self, measure: Callable[[float], Measured]) -> tuple[Measured, float]:
        before = self._model.speed(self._speed_s)
        measured = measure(before)
        return measured, (before + self._model.speed(self._speed_s)) / 2
