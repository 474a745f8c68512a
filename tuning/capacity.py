"""Predicts the throughput of a replica with given settings, and the part of it within a latency bound.

- The *peak* is the lowest of the limits of workers, device, event loop and cores, where each image costs its decoding,
  its share of HTTP and, on a CPU, of the model.
- The *capacity* is the number of images a second that may arrive at random times (Poisson) so that 99 % of the answers
  come within the bound. The processing time of a request is subtracted from the bound first. In heavy traffic the
  wait before it is exponential with mean utilisation / (2 * (1 - utilisation) * rate of service) where every request
  costs the same (Kingman, The single server queue in heavy traffic, 1961), so 99 % wait no longer than ln(100) times
  that. On cores that HTTP and the clients share, requests do not cost the same: the wait is assumed to be twice as
  long, as for exponential costs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tuning.computing import ComputeCost
from tuning.decoding import DecodeCost

LATE_SHARE: Final = 0.01
"""Share of the answers that may come later than the bound."""

_LATE_QUANTILE_TIMES_MEAN: Final = -math.log(LATE_SHARE)

MIN_GAIN_SHARE: Final = 0.02
"""Share by which settings with more processes or larger batches have to be better."""

PREFERRED_WORKERS: Final = 2
"""Workers preferred at equal capacity: if one dies or has a large image, the other goes on."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured costs of a model and some images on a machine."""

    decode: DecodeCost
    compute: ComputeCost
    cores: int  # cores of a replica
    on_cpu: bool  # whether the model computes on these cores
    images_per_request: int = 1  # images a request
    serving_s: float = 0.0  # seconds of a core an image that show only in the service, mostly HTTP
    loop_s: float = 0.0  # seconds of the event loop an image; 0 before the service is measured
    spread: float = 2.0  # factor on the wait if every request cost the same

    @property
    def most_workers(self) -> int:
        """The largest number of workers that was measured."""
        return max(self.decode.rates)


@dataclass(frozen=True, slots=True)
class Cell:
    """A combination of settings with its predicted throughput and latency."""

    decode_workers: int
    concurrent_batches: int
    batch: int
    limits: Mapping[str, float]  # images a second that each part allows
    own_s: float  # seconds of an image from worker to answer without waiting, when all workers are busy
    images_per_request: int  # images a request
    spread: float  # as in `Costs`
    capacity: float  # images a second that may arrive at random times

    @property
    def key(self) -> tuple[int, int, int]:
        """Identity of the combination, without its predictions."""
        return self.decode_workers, self.concurrent_batches, self.batch

    @property
    def peak(self) -> float:
        """Images a second under full load."""
        return min(self.limits.values())

    @property
    def bound_by(self) -> str:
        """The part with the lowest limit."""
        return min(self.limits, key=lambda part: self.limits[part])

    @property
    def request_s(self) -> float:
        """Seconds of a request that does not wait: its last image is answered after the others."""
        return self.own_s + (self.images_per_request - 1) / self.peak

    def p99_s(self, rate: float) -> float:
        """Predict the time within which 99 % are answered at a random arrival rate; infinite above the peak."""
        used = rate / self.peak
        if used >= 1:
            return math.inf
        return self.request_s + self.spread * _LATE_QUANTILE_TIMES_MEAN * used * self.images_per_request / (
            2 * (1 - used) * self.peak
        )


def cell(costs: Costs, workers: int, concurrent_batches: int, batch: int, bound_s: float) -> Cell:
    """Predict throughput and latency of a combination of workers, concurrent batches and batch size."""
    # On a CPU spare workers decode too, one for each idle thread of the model.
    decoded = costs.decode.rate(max(workers, concurrent_batches) if costs.on_cpu else workers)
    batch_s = costs.compute.seconds(concurrent_batches, batch)
    of_core_s = costs.decode.alone_s + costs.serving_s + (batch_s / batch if costs.on_cpu else 0.0)
    limits = {"decoding": decoded, "device": concurrent_batches * batch / batch_s, "cores": costs.cores / of_core_s}
    if costs.loop_s:
        limits["HTTP"] = 1 / costs.loop_s
    peak = min(limits.values())
    at_work = peak * (costs.decode.alone_s + costs.serving_s) + (concurrent_batches if costs.on_cpu else 0)
    crowding = max(1.0, at_work / costs.cores)
    own_s = costs.serving_s + crowding * (costs.decode.alone_s + batch_s)
    left_s = bound_s - own_s - (costs.images_per_request - 1) / peak
    capacity = (
        peak / (1 + costs.spread * _LATE_QUANTILE_TIMES_MEAN * costs.images_per_request / (2 * peak * left_s))
        if left_s > 0
        else 0.0
    )
    return Cell(workers, concurrent_batches, batch, limits, own_s, costs.images_per_request, costs.spread, capacity)


def cells(costs: Costs, bound_s: float) -> Iterator[Cell]:
    """Predict all combinations, those with few processes and small batches first."""
    for workers in range(1, costs.most_workers + 1):
        for concurrent_batches in costs.compute.concurrent_batches:
            for batch in costs.compute.sizes:
                yield cell(costs, workers, concurrent_batches, batch, bound_s)


def best(candidates: list[Cell]) -> Cell:
    """Choose the greatest capacity; of nearly equal ones the first with a worker to spare."""
    most = max(candidate.capacity for candidate in candidates)
    nearly = [candidate for candidate in candidates if candidate.capacity >= (1 - MIN_GAIN_SHARE) * most]
    return next((candidate for candidate in nearly if candidate.decode_workers >= PREFERRED_WORKERS), nearly[0])
