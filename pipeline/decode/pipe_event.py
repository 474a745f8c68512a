"""The event with which a DataLoader tells its only worker to end: a pipe that the replica closes.

`multiprocessing.Event` has semaphores and a lock. A process that is killed or stopped while it holds the lock blocks
the other one for ever. Each semaphore is a file in /dev/shm, which a killed process leaves behind, and which cannot be
made if /dev/shm is full.
"""

import select
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection


class PipeEvent:
    """The replica's end of the event, with the methods of `multiprocessing.Event` that DataLoader uses.

    An object pickled to a worker becomes a `WorkerEvent` there.
    """

    def __init__(self) -> None:
        self._workers, self._ours = Pipe(duplex=False)

    def __reduce__(self) -> tuple[Callable[..., "WorkerEvent"], tuple[Connection]]:
        """Pass the reading end on to the worker that is being started."""
        return WorkerEvent, (self._workers,)

    def set(self) -> None:
        """Tell the worker to end; the end of the replica has the same effect."""
        self._ours.close()

    def is_set(self) -> bool:
        """Return whether the worker has been told to end."""
        return self._ours.closed


class WorkerEvent:
    """The worker's end of the event."""

    def __init__(self, workers: Connection) -> None:
        self._workers = workers
        self._closed = select.poll()
        self._closed.register(workers, select.POLLIN)

    def is_set(self) -> bool:
        """Return whether the replica has closed its end; the pipe carries no data."""
        return bool(self._closed.poll(0))
