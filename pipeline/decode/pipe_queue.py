"""The queues between a DataLoader and its only worker: socket pairs that preserve message boundaries.

`multiprocessing.Queue` passes every item to a thread of its own, which waits for the interpreter while an image is
decoded or a request is answered. It guards both ends by locks that one reader and one writer do not need, and unpickles
every item. Here the replica, which is trusted, sends pickles; the worker, which is not trusted, sends records that are
read by `pipeline.decode.messages`. A message arrives whole or not at all, so a worker cannot block its reader within
one. Messages have a few hundred bytes, less than a socket holds, so a writer never waits.
"""

import os
import pickle
import queue
import select
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from pipeline.decode.messages import MAX_RECORD_BYTES, MalformedRecord, from_bytes, to_bytes
from pipeline.decode.pipe_event import PipeEvent
from pipeline.decode.process_state import ZOMBIE_STATE, state_of
from pipeline.decode.slots import Slots


class PipeQueue:
    """The replica's end of a queue, with the methods of `multiprocessing.Queue` that DataLoader uses.

    An object pickled to a worker becomes a `WorkerEnd` there.

    Args:
        slots: shared memory into which the worker decodes.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots, self._taken = slots, 0
        self._ours, self._workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._readable = select.poll()
        self._readable.register(self._ours, select.POLLIN)
        self._broken = False

    def __reduce__(self) -> tuple[Callable[..., "WorkerEnd"], tuple[socket.socket]]:
        """Pass the other end on to the worker that is being started."""
        return WorkerEnd, (self._workers,)

    def __del__(self) -> None:
        """Close the queue, since DataLoader closes its queues only in some cases."""
        self.close()

    def put(self, item: object) -> None:
        """Send an item to the worker, without waiting."""
        self._ours.send(pickle.dumps(item), socket.MSG_DONTWAIT)

    def get(self, timeout: float) -> tuple[int, object]:
        """Return the next record and its number. After an invalid one, returned as a `MalformedRecord`, none follow.

        Args:
            timeout: seconds to wait.

        Raises:
            queue.Empty: no record has arrived within `timeout`.
        """
        if self._broken:
            time.sleep(timeout)
            raise queue.Empty
        if not self._readable.poll(timeout * 1e3):
            raise queue.Empty
        data = self._ours.recv(MAX_RECORD_BYTES + 1, socket.MSG_DONTWAIT)
        number, self._taken = self._taken, self._taken + 1  # the worker does its jobs in order
        try:
            return number, from_bytes(data, self._slots)
        except MalformedRecord as error:
            self._broken = True
            return number, error

    def close(self) -> None:
        """Close the queue."""
        self._ours.close()
        self._workers.close()

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no thread to join."""


class WorkerEnd:
    """The worker's end of a queue."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def put(self, item: tuple[int, object]) -> None:
        """Send a record; the replica counts the records itself."""
        self._end.send(to_bytes(item[1]))

    def get(self, timeout: float | None = None) -> Any:
        """Return the next item from the replica.

        Raises:
            queue.Empty: no item has arrived within `timeout` seconds.
        """
        if not self._readable.poll(None if timeout is None else timeout * 1e3):
            raise queue.Empty
        if not (data := self._end.recv(MAX_RECORD_BYTES)):
            os._exit(0)  # the replica has ended
        return pickle.loads(data)  # noqa: S301 - the replica is trusted

    def close(self) -> None:
        """Close the queue."""
        self._end.close()

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no thread to join."""


class WorkerChild(ForkServerProcess):
    """A worker's process, seen from the replica.

    By itself multiprocessing takes all processes of a forkserver for ended when the forkserver has ended. DataLoader
    asks for it after 5 s without a record, and so an idle worker would be replaced.
    """

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self.pid is not None and state_of(self.pid) not in ("", ZOMBIE_STATE)


class PipeQueues(ForkServerContext):
    """The multiprocessing context "forkserver", with these queues and `PipeEvent`.

    Args:
        slots: shared memory into which the worker decodes.

    Attributes:
        process: the process made last; its `pid` is known to the replica, not reported by the process.
    """

    process: WorkerChild

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self._slots = slots

    def Queue(self, maxsize: int = 0) -> PipeQueue:  # type: ignore[override]  # noqa: ARG002, N802 - their names
        """Make a queue, without a limit on its size."""
        return PipeQueue(self._slots)

    def Event(self) -> PipeEvent:  # type: ignore[override]  # noqa: N802 - their name
        """Make an event, without a lock."""
        return PipeEvent()

    def Process(self, *args: Any, **options: Any) -> WorkerChild:  # type: ignore[override]  # noqa: N802 - their name
        """Make a process, and keep it in `process`."""
        self.process = WorkerChild(*args, **options)
        return self.process
