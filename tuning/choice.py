"""From a cell to all settings of a replica."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from deployments.config import LiveConfig
from pipeline.config import BATCHES_AHEAD, CHUNKS_PER_WORKER
from tuning import capacity
from tuning.capacity import Cell, Costs
from tuning.settings import Settings

HANDING: Final = 0.02
"""Of a worker's time, what it may cost to hand it its chunks."""

CHUNK_OF_BOUND: Final = 0.1
"""Of the latency bound, what a worker may take for a chunk: its first image waits for its last."""

ROOM: Final = 0.7
"""Of the time that an image may wait by the latency bound, what admission allows it.

Where more comes than fits, all that is taken on waits about so long, and decoding and the model take now less and now
longer after it. With more, answers are late and no more of them are given; with less, bursts are refused that there is
time for, and what follows them finds idle cores.
"""

BUSY: Final = 0.8
"""Of its capacity, what a replica should have to do before there is another one."""

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Encoded bytes of the images."""

    mean: float
    large: int  # 95 % have no more

    @classmethod
    def of(cls, images: Sequence[bytes]) -> "Sizes":
        """Those of these images, at least one."""
        sizes = sorted(map(len, images))
        return cls(sum(sizes) / len(sizes), sizes[math.ceil(0.95 * len(sizes)) - 1])


def settings_for(cell: Cell, costs: Costs, sizes: Sizes, live: LiveConfig, bound_s: float) -> Settings:
    """What goes with these workers, lanes and batches.

    Args:
        cell: the combination.
        costs: what was measured.
        sizes: of the images.
        live: the limits that stay as they are.
        bound_s: within which 99 % should be answered.
    """
    chunk = _chunk_images(costs, bound_s)
    in_flight = cell.workers * CHUNKS_PER_WORKER * chunk + cell.lanes * cell.batch * (2 + BATCHES_AHEAD)
    smaller = [size for size in costs.compute.sizes if size <= cell.batch]
    batch_sizes = tuple(costs.compute.sizes[: len(smaller) + 1])  # the next one too: so the batch can grow live
    ongoing = min(4096, max(64, 2 * cell.batch, _power_of_two(4 * _peak_without_http(cell, costs, bound_s) * bound_s)))
    return Settings(
        workers=cell.workers,
        threads=cell.lanes,
        batch=cell.batch,
        batch_sizes=batch_sizes,
        chunk_bytes=min(64 * _MIB, max(64 * _KIB, _power_of_two(chunk * sizes.mean))),
        slots=min(8192, max(64, 2 * batch_sizes[-1], _power_of_two(in_flight))),
        batch_wait_s=0.0,
        max_wait_s=round(max(0.001, _may_wait_s(cell, costs, bound_s)), 3),
        max_ongoing_requests=ongoing,
        max_bytes_in_flight=max(live.max_request_bytes, _power_of_two(2 * ongoing * sizes.large)),
        target_ongoing_requests=max(1, round(_in_system(cell))),
        num_cpus=costs.cores if costs.on_cpu else cell.workers + 1,
    )


def _may_wait_s(cell: Cell, costs: Costs, bound_s: float) -> float:
    """Batches are of what waits, so most are small; but there is to be time for a full one too."""
    smallest = capacity.cell(costs, cell.workers, cell.lanes, costs.compute.sizes[0], bound_s)
    return min(ROOM * (bound_s - smallest.own_s), bound_s - cell.own_s)


def _peak_without_http(cell: Cell, costs: Costs, bound_s: float) -> float:
    """What a replica is started with follows from what is known then: for what the service shows, none is replaced."""
    return capacity.cell(replace(costs, serving_s=0.0), *cell.key, bound_s).peak


def _chunk_images(costs: Costs, bound_s: float) -> int:
    """Images that a worker should be handed at a time: enough to be worth it, and no more than can wait."""
    worth = costs.decode.handing_s / (HANDING * costs.decode.alone_s)
    return max(1, math.ceil(min(worth, CHUNK_OF_BOUND * bound_s / costs.decode.alone_s)))


def _in_system(cell: Cell) -> float:
    """Images that wait or are in work on average where `BUSY` of the capacity comes, by Little's law."""
    rate = BUSY * cell.capacity
    used = rate / cell.peak
    return rate * (cell.own_s + cell.spread * used / (2 * (1 - used) * cell.peak))


def _power_of_two(least: float) -> int:
    return 1 << max(0, math.ceil(math.log2(max(1.0, least))))
