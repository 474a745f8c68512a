"""How much is measured, and for how long."""

from dataclasses import dataclass
from typing import Final

from tuning.duel import RUNS

START_S: Final = 25.0
"""What a start of the service takes on two cores, and below what a change does; for the time that is left."""

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
    rungs: tuple[float, ...]  # loads on the chosen settings, as shares of their capacity

    @property
    def decoding_s(self) -> float:
        """What one number of workers takes, about, and below other parts of a run; for the time that is left."""
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
        """Most full runs end in one."""
        return 2 * RUNS * self.trial_s(LIVE_S)

    @property
    def neighbours_s(self) -> float:
        """All of them, and the duel."""
        return 5 * self.trial_s(LIVE_S) + 3 * self.trial_s(REPLACE_S) + self.duel_s

    @property
    def climb_s(self) -> float:
        """The chosen settings on the service."""
        return LIVE_S + len(self.rungs) * self.check_s


FULL: Final = Plan(128, 3, 0.6, 1, 0.25, 4.0, True, (0.5, 0.8, 1.0))
QUICK: Final = Plan(48, 1, 0.4, 2, 0.1, 2.5, False, (0.5,))


def worker_counts(cores: int, *, on_cpu: bool, quick: bool) -> list[int]:
    """Numbers of workers that are measured; those between follow from a law.

    Args:
        cores: of a replica.
        on_cpu: whether the model computes on these too; else one of them is for feeding the device.
        quick: whether one more than there are cores is left out.
    """
    most = cores if on_cpu else max(1, cores - 1)
    if most > 4:
        return sorted({1, most, *(1 << power for power in range(1, most.bit_length()) if 1 << power <= most)})
    return list(range(1, most + (1 if quick else 2)))
