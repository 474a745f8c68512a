"""The event by which a DataLoader has its only worker end: a pipe that the replica closes.

`multiprocessing.Event` has semaphores and a lock. Whoever is killed or stopped while it holds the lock keeps the other
from it for ever, and each semaphore is a file in /dev/shm, which a killed process leaves behind, and which cannot be
made where /dev/shm is full.
"""

import select
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection


class PipeEvent:
    """As much of `multiprocessing.Event` as DataLoader uses, in the replica.

    Pickled to a worker, it arrives there as a `WorkerEvent`.
    """

    def __init__(self) -> None:
        self._workers, self._ours = Pipe(duplex=False)

    def __reduce__(self) -> tuple[Callable[..., "WorkerEvent"], tuple[Connection]]:
        """Hands the reading end to the worker, which is being started."""
        return WorkerEvent, (self._workers,)

    def set(self) -> None:
        """Tells the worker to end; the replica's own end tells it the same."""
        self._ours.close()

    def is_set(self) -> bool:
        """Whether the worker has been told."""
        return self._ours.closed


class WorkerEvent:
    """The same, in the worker."""

    def __init__(self, workers: Connection) -> None:
        self._workers = workers
        self._closed = select.poll()
        self._closed.register(workers, select.POLLIN)

    def is_set(self) -> bool:
        """Whether the other end has been closed; nothing is ever written to it."""
        return bool(self._closed.poll(0))
