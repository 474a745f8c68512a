"""Extent of a run: the number and duration of its measurements."""

from dataclasses import dataclass
from typing import Final

SERVICE_START_S: Final = 25.0
"""Seconds of a start of the service on two cores, estimated; below, of other changes."""

REPLICA_REPLACEMENT_S: Final = 15.0
LIVE_CHANGE_S: Final = 2.5
SERVICE_STOP_S: Final = 5.0
ENGINE_START_S: Final = 0.5
TRANSFORM_MEASURING_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Number and duration of a run's measurements; times in seconds."""

    images: int = 48  # of the sample
    decode_s: float = 0.4  # for each number of workers
    turns: int = 2  # over the model's batches
    batch_s: float = 0.1  # for each batch size, number of concurrent batches and turn
    check_s: float = 2.5  # for each load on the service
    runs: int = 2  # of the configuration's settings and of the predicted ones, when one of both is chosen

    @property
    def decoding_s(self) -> float:
        """Seconds for one number of workers, estimated."""
        return ENGINE_START_S + self.decode_s

    @property
    def measuring_s(self) -> float:
        """Seconds without the service, about: the batch sizes are known only when the model is loaded."""
        return 4 * self.decoding_s + 8 * self.turns * self.batch_s

    @property
    def trial_s(self) -> float:
        """Seconds of one load on the service, with the machine's speed before and after it."""
        return 2 * self.batch_s + self.check_s

    @property
    def comparing_s(self) -> float:
        """Seconds of the comparison: the configuration's settings and the predicted ones."""
        return 2 * self.runs * self.trial_s + REPLICA_REPLACEMENT_S

    @property
    def holding_s(self) -> float:
        """Seconds of the loads of both kinds that show which keep the bound."""
        return 7 * self.check_s


def worker_counts(cores: int) -> list[int]:
    """Numbers of workers to measure by number of cores; the fitted law gives those between."""
    if cores > 4:
        return sorted({1, cores, *(1 << power for power in range(1, cores.bit_length()) if 1 << power <= cores)})
    return list(range(1, cores + 1))
