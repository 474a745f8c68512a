"""Results of a run, from which its report is made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tuning.capacity import Cell, Costs
from tuning.comparison import Comparison
from tuning.derived_settings import Sizes
from tuning.fits import BatchCost, Scaling
from tuning.load_check import LoadResult
from tuning.replica_settings import Settings
from tuning.transform_gain import TransformGain
from tuning.trials import Trial


@dataclass(slots=True)
class Findings:
    """Results of a run, filled from top to bottom; what is not known yet is None or empty."""

    command: str
    date: str
    asked_s: float | None  # the bound on 99 % of the answers that the user has asked for
    seed: int
    images_per_request: int = 1  # images a request
    bound_s: float = math.nan  # the one asked for, or else the one that follows from the machine
    machine: Sequence[str] = ()  # a line each
    model: str = ""
    images: int = 0  # of the sample
    unreadable: Sequence[str] = ()  # files that were left out, and why
    sizes: Sizes | None = None
    costs: Costs | None = None
    transform: TransformGain | None = None  # of a transform of the user's own
    cells: Sequence[Cell] = ()
    too_large: Sequence[str] = ()  # settings that the machine's memory does not hold
    present: Settings | None = None  # those of the configuration
    predicted: Settings | None = None
    alone: LoadResult | None = None  # one client, the configuration's settings
    trials: Sequence[Trial] = ()  # of all settings that were tried on the running service
    comparison: Comparison | None = None  # of the configuration's settings with the predicted ones
    chosen: Settings | None = None
    full: LoadResult | None = None  # the chosen settings at full load, once more, where a bound was asked for
    closed_loop: Sequence[LoadResult] = ()  # the chosen settings, with more and fewer clients
    open_loop: Sequence[LoadResult] = ()  # likewise, with more and fewer requests at random times
    most_open: LoadResult | None = None  # of these, the highest rate that kept the bound
    too_many: LoadResult | None = None  # and the lowest that did not
    written: Settings | None = None  # the chosen settings with their limits
    proof: LoadResult | None = None  # these, with the clients that the bound allows
    verdict: str = ""  # the service's own
    advice: Sequence[str] = ()  # what is the bottleneck, and what would change it
    others_cores: int = 0  # cores for the clients alone
    busy_before: float = 0.0  # share of the cores that other programs used before the run
    diff: str = ""  # of the configuration
    stopped: str = ""  # why it has ended early, or why nothing is recommended: a sentence

    @property
    def scaling(self) -> Scaling | None:
        """The law fitted to decoding, once there are measurements."""
        return self.costs.decode.scaling if self.costs and self.costs.decode.rates else None

    @property
    def batch_costs(self) -> dict[int, BatchCost]:
        """Fitted costs of batches, by concurrent batches."""
        return self.costs.compute.fits() if self.costs and self.costs.compute.batches else {}

    def of(self, settings: Settings | None) -> list[Trial]:
        """Find the trials of some settings, whatever their limits."""
        return [trial for trial in self.trials if settings and trial.settings.key == settings.key]

    @property
    def peak(self) -> LoadResult | None:
        """Results at full load of the chosen settings, or of the present ones before there is a choice.

        Images a second are the mean of the runs; times are those of the slowest. Where fewer clients were answered more
        later, since the machine had become faster, these count.
        """
        runs = [trial.full for trial in self.of(self.chosen or self.present)]
        if self.full:
            runs = [self.full]  # measured beside all that it is compared with
        if not runs:
            return None
        slowest = max(runs, key=lambda seen: seen.p99_s)
        peak = replace(slowest, answered=fmean(seen.answered for seen in runs))
        return max(filter(None, (peak, self.proof)), key=lambda seen: seen.answered)
