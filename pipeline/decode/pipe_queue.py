"""The queues between a DataLoader and its only worker: socket pairs that keep the borders of messages, and no more.

`multiprocessing.Queue` hands every item to a thread of its own, which waits for the interpreter while an image is
decoded or a request is answered, guards both ends by locks that one reader and one writer do not need, and unpickles
what comes. Here the replica, which is trusted, sends pickles; the worker, which is not, sends records that are read by
`pipeline.decode.messages`. A message arrives whole or not at all, so that a worker cannot keep its reader in the middle
of one. What travels is a few hundred bytes at a time, less than a socket holds, so a writer never waits.
"""

import os
import pickle
import queue
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, Final

from pipeline.decode.messages import MAX_RECORD_BYTES, MalformedRecord, from_bytes, to_bytes
from pipeline.decode.pipe_event import PipeEvent
from pipeline.decode.slots import Slots

_WAKE_UP_ITEM: Final = (None, None)
"""Sent by DataLoader to its own pin-memory thread, so that it looks at the event that ends it."""


class PipeQueue:
    """As much of `multiprocessing.Queue` as DataLoader uses, in the replica.

    Pickled to a worker, it arrives there as a `WorkerEnd`.

    Args:
        slots: where the worker decodes to.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots, self._taken = slots, 0
        self._ours, self._workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._readable = select.poll()
        self._readable.register(self._ours, select.POLLIN)
        self._woken, self._broken = threading.Event(), False

    def __reduce__(self) -> tuple[Callable[..., "WorkerEnd"], tuple[socket.socket]]:
        """Hands the other end to the worker, which is being started."""
        return WorkerEnd, (self._workers,)

    def __del__(self) -> None:
        """DataLoader closes its queues in some cases only."""
        self.close()

    def put(self, item: object) -> None:
        """Sends an item to the worker; it may be read at once."""
        if item == _WAKE_UP_ITEM:
            self._woken.set()
            with suppress(BlockingIOError):  # full, so its reader is awake
                self._workers.send(b"\0", socket.MSG_DONTWAIT)
        else:
            self._ours.send(pickle.dumps(item), socket.MSG_DONTWAIT)

    def get(self, timeout: float | None = None) -> tuple[int | None, object]:
        """The number of the next record, and it; a `MalformedRecord` in its place where it is none, and no more after.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            queue.Empty: none has come by then.
        """
        if self._broken:
            self._woken.wait(timeout)
            raise queue.Empty
        if not self._readable.poll(None if timeout is None else timeout * 1e3):
            raise queue.Empty
        data = self._ours.recv(MAX_RECORD_BYTES + 1, socket.MSG_DONTWAIT)
        if self._woken.is_set():
            return _WAKE_UP_ITEM
        number, self._taken = self._taken, self._taken + 1  # the worker does one job after the other
        try:
            return number, from_bytes(data, self._slots)
        except MalformedRecord as error:
            self._broken = True
            return number, error

    def close(self) -> None:
        """Nothing goes in or out any more."""
        self._ours.close()
        self._workers.close()

    def cancel_join_thread(self) -> None:
        """There is no thread."""


class WorkerEnd:
    """The same, in the worker."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def put(self, item: tuple[int, object]) -> None:
        """Sends a record; the replica counts for itself which it is."""
        self._end.send(to_bytes(item[1]))

    def get(self, timeout: float | None = None) -> Any:
        """The next item of the replica's.

        Raises:
            queue.Empty: none has come after `timeout` seconds.
        """
        if not self._readable.poll(None if timeout is None else timeout * 1e3):
            raise queue.Empty
        if not (data := self._end.recv(MAX_RECORD_BYTES)):
            os._exit(0)  # the replica is gone
        return pickle.loads(data)  # noqa: S301 - the replica is trusted

    def close(self) -> None:
        """Nothing goes in or out any more."""
        self._end.close()

    def cancel_join_thread(self) -> None:
        """There is no thread."""


class PipeQueues(ForkServerContext):
    """The start method "forkserver", with these queues and their event.

    Args:
        slots: where the worker decodes to.

    Attributes:
        process: that was made last; its `pid` does not come from the process itself.
    """

    process: BaseProcess

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self._slots = slots

    def Queue(self, maxsize: int = 0) -> PipeQueue:  # type: ignore[override]  # noqa: ARG002, N802 - their names
        """One without a bound."""
        return PipeQueue(self._slots)

    def Event(self) -> PipeEvent:  # type: ignore[override]  # noqa: N802 - their name
        """One without a lock."""
        return PipeEvent()

    def Process(self, *args: Any, **options: Any) -> BaseProcess:  # type: ignore[override]  # noqa: N802 - their name
        """One that is kept in mind."""
        self.process = super().Process(*args, **options)
        return self.process
