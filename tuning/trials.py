"""Trials: measurements of settings on one running service."""

from dataclasses import dataclass, replace
from typing import Final

from tuning.computing import MeasuredModel
from tuning.load_check import LoadCheck, LoadResult
from tuning.replica_settings import Settings

MIN_REQUESTS: Final = 60
"""Requests to be answered in a load, about, if that takes no longer than `MAX_LOAD_S`."""

MAX_LOAD_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Results of one measurement of settings, with two loads."""

    settings: Settings
    within: LoadResult  # with as many clients as the bound allows
    full: LoadResult  # with as many as keep the service busy; the same measurement where the bound allows that many

    @property
    def speed(self) -> float:
        """Speed of the machine, as a multiple of what it was when costs were measured."""
        return (self.within.speed + self.full.speed) / 2


class Trials:
    """Measures settings under the same load from clients that each wait for their answer.

    The speed of the machine is measured before and after each load with the model alone. It shows how reliable the
    figures are. They are not normalised to one speed: with other programs that run for seconds only, this would make
    them worse.

    Args:
        check: the running service.
        model: the model for measuring the speed.
        speed_s: duration of each speed measurement in seconds.
        check_s: duration of each load in seconds.
    """

    def __init__(self, check: LoadCheck, model: MeasuredModel, *, speed_s: float, check_s: float) -> None:
        self.check, self.check_s = check, check_s
        self.clients_within = self.clients_full = 1
        self.seen: list[Trial] = []
        self._model, self._speed_s = model, speed_s

    def last(self, requests_per_s: float) -> None:
        """Lengthen the loads if few requests are answered a second."""
        self.check_s = max(self.check_s, min(MAX_LOAD_S, MIN_REQUESTS / max(requests_per_s, 1e-3)))

    def run(self, settings: Settings) -> Trial:
        """Apply settings, measure them and record the trial."""
        self.check.apply(settings)
        within = self._load(settings, self.clients_within)
        full = within if self.clients_full == self.clients_within else self._load(settings, self.clients_full)
        self.seen.append(Trial(settings, within, full))
        return self.seen[-1]

    def of(self, settings: Settings) -> list[Trial]:
        """Find the trials of some settings, in order."""
        return [trial for trial in self.seen if trial.settings == settings]

    def _load(self, settings: Settings, clients: int) -> LoadResult:
        before = self._model.speed(self._speed_s)
        seen = self.check.closed_loop(settings, clients, self.check_s)
        return replace(seen, speed=(before + self._model.speed(self._speed_s)) / 2)
