"""Made-up measured costs, and results derived from them."""

from tuning.capacity import Cell, Costs, best, cells
from tuning.computing import ComputeCost
from tuning.decoding import DecodeCost
from tuning.load_check import LoadResult
from tuning.replica_settings import Settings

BOUND_S = 0.1

PRESENT = Settings(
    decode_workers=1,
    concurrent_batches=2,
    batch=32,
    batch_sizes=(1, 2, 4, 8, 16, 32),
    chunk_bytes=1 << 20,
    slots=256,
    batch_window_s=0.0,
    max_queue_wait_s=5.0,
    max_ongoing_requests=512,
    max_bytes_in_flight=512 << 20,
    num_cpus=2.0,
)
"""Settings of a configuration before it is tuned."""


def costs(
    *,
    decode_s: float = 0.002,
    model_s: float = 0.010,
    fixed_s: float = 0.002,
    cores: int = 2,
    on_cpu: bool = True,
    most_workers: int = 3,
) -> Costs:
    """Return the costs of a machine without any disturbance.

    Args:
        decode_s: time of an image in a worker.
        model_s: time of each image in a batch.
        fixed_s: time of a batch itself.
        cores: cores of a replica.
        on_cpu: whether the model computes on these cores too.
        most_workers: largest measured number of workers.
    """
    decode = DecodeCost()
    for workers in range(1, most_workers + 1):
        decode.runs[workers] = [min(workers, cores) / decode_s]
    decode.decoding, decode.handing, decode.worker_bytes = [decode_s], [0.0002], 30 << 20
    concurrent_batches = range(1, cores + 1) if on_cpu else (1,)
    compute = ComputeCost(
        {(n, size): [fixed_s + size * model_s] for n in concurrent_batches for size in (1, 2, 4, 8, 16)}
    )
    return Costs(decode, compute, cores, on_cpu)


def best_of(given: Costs, bound_s: float = BOUND_S) -> Cell:
    """Return the combination with the best prediction."""
    return best(list(cells(given, bound_s)))


def cells_of(given: Costs, bound_s: float = BOUND_S) -> list[Cell]:
    """Return all combinations."""
    return list(cells(given, bound_s))


def seen(
    settings: Settings = PRESENT,
    *,
    clients: int = 0,
    offered: float = 60.0,
    good: float | None = None,
    p99_s: float = 0.08,
    refused: int = 0,
    lost: int = 0,
) -> LoadResult:
    """Return answers to a load, all of them in time unless `good` says otherwise."""
    return LoadResult(
        settings=settings,
        clients=clients,
        offered=offered,
        answered=offered,
        good=offered if good is None else good,
        p50_s=p99_s / 2,
        p99_s=p99_s,
        longest_s=1.1 * p99_s,
        requests=round(4 * offered),
        refused=refused,
        lost=lost,
    )
