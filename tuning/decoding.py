"""The cost of decoding: images a second by the number of workers, measured with the serving pipeline."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from harness.throughput import Throughput, throughput
from pipeline.bounds import CHUNKS_PER_WORKER
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.live_limits import Limits
from pipeline.records import Prediction
from pipeline.usable_cores import usable_cores
from tuning.fits import Scaling, fit_scaling
from tuning.null_device import open_null_device

_CHUNK_BYTES: Final = 256 << 10
"""Bytes of a chunk: large enough to amortise the hand-over, small enough for exact counts."""


@dataclass(frozen=True, slots=True)
class Readable:
    """Images that can be served, and the faults of the others."""

    images: tuple[bytes, ...]
    faults: tuple[str, ...]


@dataclass(slots=True)
class DecodeCost:
    """Measured costs of decoding."""

    runs: dict[int, list[float]] = field(default_factory=dict)  # images a second, by the number of workers
    decoding: list[float] = field(default_factory=list)  # seconds of an image in a worker, in each run
    handing: list[float] = field(default_factory=list)  # seconds that one worker waits between images handed one by one
    worker_bytes: int = 0  # largest private memory of a worker seen

    @property
    def rates(self) -> dict[int, float]:
        """Images a second by the number of workers: the median of the runs."""
        return {workers: statistics.median(rates) for workers, rates in sorted(self.runs.items())}

    @property
    def scaling(self) -> Scaling:
        """The law fitted to these rates."""
        return fit_scaling(self.rates)

    def rate(self, workers: int) -> float:
        """Images a second by number of workers: measured, or interpolated by the fitted law."""
        return self.rates.get(workers) or self.scaling.rate(workers)

    @property
    def alone_s(self) -> float:
        """Seconds of a core to decode an image."""
        return statistics.median(self.decoding)

    @property
    def handing_s(self) -> float:
        """Seconds to hand a chunk to a worker, whatever its size."""
        return statistics.median(self.handing)


class Decoders:
    """Measures decoding with different numbers of workers.

    Args:
        config: settings of the pipeline; device and dtype are not used.
        limits: limits on images.
    """

    def __init__(self, config: PipelineConfig, limits: Limits) -> None:
        self._config = config.model_copy(update={"device": "cpu", "concurrent_batches": 1, "dtype": "float32"})
        self._limits = limits
        self._cores = usable_cores()
        self.cost = DecodeCost()

    def readable(self, images: Mapping[str, bytes]) -> Readable:
        """Decode the images; return those that can be served and the error messages of the others."""
        with self._engine(1) as engine:
            outcomes = dict(zip(images, engine.infer(list(images.values())), strict=True))
        good = tuple(data for name, data in images.items() if isinstance(outcomes[name], Prediction))
        faults = (
            f"{name}: {outcome.error}" for name, outcome in outcomes.items() if not isinstance(outcome, Prediction)
        )
        return Readable(good, tuple(faults))

    def measure(self, workers: int, images: Sequence[bytes], for_s: float) -> None:
        """Measure images a second with a number of workers; further calls add measurements."""
        with self._engine(workers) as engine:
            done = _throughput(engine, images, for_s)
            self.cost.runs.setdefault(workers, []).append(done.per_s)
            if workers <= self._cores:  # with more, waiting for a core would count
                self.cost.decoding.append(done.decode_s)
            used = (psutil.Process(pid).memory_full_info().uss for pid in engine.worker_pids)
            self.cost.worker_bytes = max(self.cost.worker_bytes, *used)

    def measure_one_by_one(self, images: Sequence[bytes], for_s: float) -> None:
        """Measure the cost of handing over one image by itself: the time between two in which the worker is idle."""
        with self._engine(1, chunk_bytes=1) as engine:
            timings = _throughput(engine, images, for_s).timings
        waits = (later.ended_at - image.ended_at - later.decode_s for image, later in itertools.pairwise(timings))
        self.cost.handing.append(statistics.median(waits))

    def _engine(self, workers: int, chunk_bytes: int = _CHUNK_BYTES) -> Engine:
        config = self._config.model_copy(
            update={"decode_workers": workers, "spare_workers": 0, "chunk_bytes": chunk_bytes}
        )
        return Engine(config, self._limits, opener=open_null_device)


def _throughput(engine: Engine, images: Sequence[bytes], for_s: float) -> Throughput:
    """Measure with few requests of one chunk each, as large images take long."""
    together = max(1, engine.config.chunk_bytes * len(images) // sum(map(len, images)))
    return throughput(
        engine, images, for_s, together=together, requests=2 + 2 * CHUNKS_PER_WORKER * engine.decode_workers
    )
