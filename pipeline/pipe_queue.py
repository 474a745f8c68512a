"""The queues between a DataLoader and its only worker: pipes, and nothing else.

`multiprocessing.Queue` hands every item to a thread of its own, which waits for the interpreter while an image is
decoded or a request is answered, and guards both ends by locks that one reader and one writer do not need. What travels
here is a few hundred bytes at a time, less than a pipe holds, so a writer never waits.
"""

import queue
from multiprocessing import Pipe
from multiprocessing.context import ForkServerContext
from typing import Any


class PipeQueue:
    """As much of `multiprocessing.Queue` as DataLoader uses."""

    def __init__(self) -> None:
        self._reader, self._writer = Pipe(duplex=False)

    def put(self, item: object) -> None:
        """Sends an item; it may be read at once."""
        self._writer.send(item)

    def get(self, timeout: float | None = None) -> Any:
        """The next item.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            queue.Empty: none has come by then.
        """
        if not self._reader.poll(timeout):
            raise queue.Empty
        return self._reader.recv()

    def close(self) -> None:
        """Nothing goes in or out any more."""
        self._reader.close()
        self._writer.close()

    def cancel_join_thread(self) -> None:
        """There is no thread."""


class PipeQueues(ForkServerContext):
    """The start method "forkserver", with these queues."""

    def Queue(self, maxsize: int = 0) -> PipeQueue:  # type: ignore[override]  # noqa: ARG002, N802 - their names
        """One without a bound."""
        return PipeQueue()
