"""Costs as they might have been measured, and what follows from them."""

from tuning.capacity import Cell, Costs, best, cells
from tuning.computing import ComputeCost
from tuning.decoding import DecodeCost

BOUND_S = 0.1


def costs(
    *,
    decode_s: float = 0.002,
    model_s: float = 0.010,
    fixed_s: float = 0.002,
    cores: int = 2,
    on_cpu: bool = True,
    most_workers: int = 3,
) -> Costs:
    """A machine on which nothing disturbs anything.

    Args:
        decode_s: of an image in a worker.
        model_s: of each image in a batch.
        fixed_s: of a batch.
        cores: of a replica.
        on_cpu: whether the model computes on these too.
        most_workers: up to which were measured.
    """
    decode = DecodeCost()
    for workers in range(1, most_workers + 1):
        decode.runs[workers] = [min(workers, cores) / decode_s]
    decode.decoding, decode.handing, decode.worker_bytes = [decode_s], [0.0002], 30 << 20
    lanes = range(1, cores + 1) if on_cpu else (1,)
    compute = ComputeCost({(n, size): [fixed_s + size * model_s] for n in lanes for size in (1, 2, 4, 8, 16)})
    return Costs(decode, compute, cores, on_cpu)


def best_of(given: Costs, bound_s: float = BOUND_S) -> Cell:
    """What is predicted."""
    return best(list(cells(given, bound_s)))
