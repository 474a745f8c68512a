"""How much is measured, and for how long."""

from dataclasses import dataclass
from typing import Final


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


FULL: Final = Plan(128, 3, 0.6, 1, 0.25, 4.0, True, (0.5, 0.8, 1.0))
QUICK: Final = Plan(48, 1, 0.4, 2, 0.1, 2.5, False, (0.5,))

START_S: Final = 25.0
"""What a start of the service takes on two cores, and below what a change does; for the time that is left."""

REPLACE_S: Final = 15.0
LIVE_S: Final = 2.5
STOP_S: Final = 5.0
ENGINE_S: Final = 0.5


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
