"""The extent of a run: how much is measured, and for how long."""

from dataclasses import dataclass
from typing import Final

START_S: Final = 25.0
"""Seconds of a start of the service on two cores, and below of a change; for the time that is left."""

REPLACE_S: Final = 15.0
LIVE_S: Final = 2.5
STOP_S: Final = 5.0
ENGINE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's extent; times in seconds."""

    images: int  # of the sample
    passes: int  # over everything that is measured without the service
    decode_s: float  # for each number of workers and pass
    turns: int  # over the model's batches, in each pass
    batch_s: float  # for each batch size, number of lanes and turn
    check_s: float  # for each load on the service
    neighbours: bool  # whether neighbouring settings are tried on the service
    runs: int  # of the configuration's settings and of the best others, when one of both is chosen

    @property
    def decoding_s(self) -> float:
        """Seconds of one number of workers, about, and below of other parts of a run; for the time that is left."""
        return ENGINE_S + self.decode_s

    @property
    def measuring_s(self) -> float:
        """Without the service; how much that is, is known only when the model is loaded."""
        return self.passes * (4 * self.decoding_s + 8 * self.turns * self.batch_s)

    def trial_s(self, apply_s: float) -> float:
        """Settings on the service, which takes `apply_s` to change to them."""
        return apply_s + 2 * self.batch_s + self.check_s

    @property
    def duel_s(self) -> float:
        """The configuration's settings and the best others, in turn."""
        return 2 * self.runs * self.trial_s(0.0) + 2 * REPLACE_S

    @property
    def comparing_s(self) -> float:
        """All settings that are tried."""
        neighbours_s = 3 * self.trial_s(LIVE_S) + 4 * self.trial_s(REPLACE_S) if self.neighbours else 0.0
        return neighbours_s + self.duel_s

    @property
    def holding_s(self) -> float:
        """Loads of both kinds, to see which keep the bound."""
        return 7 * self.check_s


FULL: Final = Plan(128, 3, 0.6, 1, 0.25, 4.0, True, 3)
QUICK: Final = Plan(48, 1, 0.4, 2, 0.1, 2.5, False, 2)


def worker_counts(cores: int, *, on_cpu: bool, quick: bool) -> list[int]:
    """Numbers of workers that are measured; those between follow from a law.

    Args:
        cores: of a replica.
        on_cpu: whether the model computes on these too; then workers wait for it, and one more may help.
        quick: whether one more than there are cores is left out.
    """
    if cores > 4:
        return sorted({1, cores, *(1 << power for power in range(1, cores.bit_length()) if 1 << power <= cores)})
    return list(range(1, cores + (2 if on_cpu and not quick else 1)))
