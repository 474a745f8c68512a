"""Chooses the process for an image: one more stands ready than decode ordinary images at a time.

An image that takes long, because of its price or against it, holds its process for as long as it takes. So of all
processes one is kept from costly images: whoever has an ordinary one finds a process that takes it at once.
"""

from collections.abc import Sequence

from pipeline.config import CHUNKS_PER_WORKER
from pipeline.decode.worker_process import WorkerProcess


def for_ordinary(workers: Sequence[WorkerProcess], most: int) -> WorkerProcess | None:
    """The process that should take the next ordinary images, if one can.

    Args:
        workers: all of them.
        most: how many may be at ordinary images at a time; those that are held up by one do not count.
    """
    at_it = [worker for worker in workers if worker.is_quick and worker.chunks]
    able = [worker for worker in at_it if len(worker.chunks) < CHUNKS_PER_WORKER]
    if len(at_it) < most:
        able += [worker for worker in workers if worker.is_quick and not worker.chunks]
    return min(able, key=lambda worker: worker.price_in_hand_s, default=None)


def for_costly(workers: Sequence[WorkerProcess]) -> WorkerProcess | None:
    """The process that should take the next costly image, if one can: it has nothing else, and another stays free."""
    quick = [worker for worker in workers if worker.is_quick]
    idle = [worker for worker in quick if not worker.chunks]
    return idle[-1] if idle and (len(quick) > 1 or len(workers) == 1) else None


def stands_in_for(slow: WorkerProcess, workers: Sequence[WorkerProcess]) -> bool:
    """Whether another process can take what a slow one has not begun."""
    return any(worker.is_quick for worker in workers if worker is not slow)
