"""All settings of a replica, derived from workers, concurrent batches and batch size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline.bounds import BATCHES_AHEAD, CHUNKS_PER_WORKER
from tuning import capacity
from tuning.capacity import Cell, Costs
from tuning.replica_settings import Settings

MAX_HANDOVER_SHARE: Final = 0.02
"""Share of a worker's time that handing it its chunks may cost."""

MAX_CHUNK_SHARE: Final = 0.1
"""Share of the latency bound that a worker may take for a chunk: its first image waits for its last."""

WAITING_SHARE: Final = 0.7
"""Share of the latency bound, less the image's own way, that is kept for waiting.

A larger batch is chosen only if this share is left, as the times of decoding and model vary.
"""

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Encoded bytes of the images."""

    mean: float
    large: int  # 95 % have no more

    @classmethod
    def of(cls, images: Sequence[bytes]) -> "Sizes":
        """Compute the sizes of these images, at least one."""
        sizes = sorted(map(len, images))
        return cls(sum(sizes) / len(sizes), sizes[math.ceil(0.95 * len(sizes)) - 1])


def settings_for(cell: Cell, costs: Costs, sizes: Sizes, present: Settings, bound_s: float) -> Settings:
    """Derive all settings of a replica from a combination of workers, concurrent batches and batch size.

    Args:
        cell: the combination.
        costs: the measured costs.
        sizes: encoded bytes of the images.
        present: present settings; limits that do not follow from the combination stay as they are.
        bound_s: time within which 99 % of the answers should come.
    """
    chunk = _chunk_images(costs, bound_s)
    in_flight = cell.decode_workers * CHUNKS_PER_WORKER * chunk + cell.concurrent_batches * cell.batch * (
        2 + BATCHES_AHEAD
    )
    smaller = [size for size in costs.compute.sizes if size <= cell.batch]
    batch_sizes = tuple(costs.compute.sizes[: len(smaller) + 1])  # the next one too: so the batch can grow live
    requests_s = _peak_without_http(cell, costs, bound_s) / costs.images_per_request
    ongoing = min(4096, max(64, 2 * batch_sizes[-1], _power_of_two(4 * requests_s * bound_s)))
    return Settings(
        decode_workers=cell.decode_workers,
        concurrent_batches=cell.concurrent_batches,
        batch=cell.batch,
        batch_sizes=batch_sizes,
        chunk_bytes=min(64 * _MIB, max(64 * _KIB, _power_of_two(chunk * sizes.mean))),
        slots=min(8192, max(64, 2 * batch_sizes[-1], _power_of_two(in_flight))),
        batch_window_s=0.0,
        max_queue_wait_s=present.max_queue_wait_s,
        max_ongoing_requests=max(present.max_ongoing_requests, ongoing),
        max_bytes_in_flight=present.max_bytes_in_flight,
        num_cpus=_num_cpus(cell, costs, present),
    )


def _num_cpus(cell: Cell, costs: Costs, present: Settings) -> float:
    if (cell.decode_workers, cell.concurrent_batches) == (present.decode_workers, present.concurrent_batches):
        return present.num_cpus
    return costs.cores if costs.on_cpu else min(costs.cores, cell.decode_workers + 1)


def longest_wait_s(cell: Cell, costs: Costs, bound_s: float) -> float:
    """Compute the seconds that the bound leaves for waiting.

    Batches consist of waiting images, so most are small; but a full one has to fit into the bound too.
    """
    smallest = capacity.cell(costs, cell.decode_workers, cell.concurrent_batches, costs.compute.sizes[0], bound_s)
    return min(WAITING_SHARE * (bound_s - smallest.own_s), bound_s - cell.own_s)


def _peak_without_http(cell: Cell, costs: Costs, bound_s: float) -> float:
    """Predict the peak from the costs known before the service runs, so that later ones replace no replica."""
    return capacity.cell(replace(costs, serving_s=0.0, loop_s=0.0), *cell.key, bound_s).peak


def _chunk_images(costs: Costs, bound_s: float) -> int:
    """Choose the images of a chunk: enough to amortise the hand-over, and no more than may wait."""
    worth = costs.decode.handing_s / (MAX_HANDOVER_SHARE * costs.decode.alone_s)
    return max(1, math.ceil(min(worth, MAX_CHUNK_SHARE * bound_s / costs.decode.alone_s)))


def _power_of_two(least: float) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1.0, least))))
