"""Memory limit for the request bodies in a replica; at the limit, a body that is still arriving is dropped.

Bytes count when they arrive: an announced length takes no memory. When the next bytes do not fit, a body that is still
arriving is dropped and its bytes are freed. It is a body of the source (client address) with the most bytes in such
bodies, as in routers that drop from the longest queue. So one address alone cannot keep others out, and may use all of
the memory while nobody else needs it. Among the bodies of that source a large one that has become slow is dropped
first, else the youngest large one, else the youngest. So the oldest body always arrives whole, bodies that have arrived
in part never block each other, and a photograph is not refused for the sake of a large body.

Bodies also occupy places in the replica. When nearly all places are taken, the slowest bodies are dropped.
"""

import heapq
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Final

from deployments.request_errors import Overloaded

_SMALL_BODY_BYTES: Final = 1 << 20
_STRIDE_BYTES: Final = 128 << 10
_STRIDE_S: Final = 2.0
"""A large body counts as slow, and is dropped first, below 64 KiB a second: one stride of bytes in this time."""

_YOUNG_BODY_S: Final = 0.5
"""Age below which the rate of a body is not judged: its bytes may not have been read yet."""

_ANSWERED_WINDOW_S: Final = 10.0
_MAX_RETRY_AFTER_S: Final = 60


class Hold:
    """Bytes of one body in memory.

    Args:
        budget: the limit that they count against.
        source: address of the client.

    Attributes:
        bytes: bytes that have arrived and are still in memory.
        is_whole: whether all of the body has arrived.
        was_dropped: whether the body was dropped to make room for others.
        on_drop: called when the body is dropped; ends the reading of the body.
    """

    def __init__(self, budget: "MemoryBudget", source: str) -> None:
        self.bytes = 0
        self.source = source
        self.is_whole = self.was_dropped = False
        self.on_drop: Callable[[], None] = _nothing
        self._budget = budget
        self._began_at = self._stride_ended_at = time.monotonic()
        self._stride_ended_bytes = 0  # bytes at the end of the last stride

    def expect(self, size: int) -> None:
        """Check an announced length before the body is read; do not count its bytes.

        Raises:
            Overloaded: the body would not fit if it arrived now.
        """
        self._budget.check_expected(self.source, size)

    def take(self, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            Overloaded: the bytes do not fit, or the body has been dropped.
        """
        if self.was_dropped:
            raise self.refused()
        self._budget.take(self, size)
        self.bytes += size
        if self.bytes - self._stride_ended_bytes >= _STRIDE_BYTES:
            self._stride_ended_at, self._stride_ended_bytes = time.monotonic(), self.bytes

    def rate(self) -> float:
        """Return the bytes a second since the body began; infinite while it is too young to judge."""
        age_s = time.monotonic() - self._began_at
        return self.bytes / age_s if age_s > _YOUNG_BODY_S else math.inf

    def finish(self) -> None:
        """Note that the body has arrived whole: from now on it cannot be dropped."""
        self.is_whole = True
        self._budget.finish(self)

    def refused(self) -> Overloaded:
        """Make the error of a body that has been dropped."""
        return self._budget.dropped()

    def is_slow(self) -> bool:
        """Return whether the body is large and hardly any more of it arrives."""
        return self.bytes > _SMALL_BODY_BYTES and time.monotonic() - self._stride_ended_at > _STRIDE_S


class MemoryBudget:
    """Counts the bytes of bodies from their arrival until their requests are answered. For one event loop.

    Args:
        max_bytes: the limit; may be changed at any time.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._arriving = dict[str, dict[Hold, None]]()  # bodies that are not whole yet, by source, the oldest first
        self._arriving_bytes = Counter[str]()  # bytes of these bodies, by source
        self._answered: deque[tuple[float, int]] = deque()  # time and bytes of each body answered in the last window

    @contextmanager
    def hold(self, source: str) -> Iterator[Hold]:
        """Hold the bytes of one body until the block ends."""
        hold = Hold(self, source)
        self._arriving.setdefault(source, {})[hold] = None
        try:
            yield hold
        finally:
            self.finish(hold)
            self.held_bytes -= hold.bytes
            self._answered.append((time.monotonic(), hold.bytes))
            self._forget()

    def check_expected(self, source: str, size: int) -> None:
        """Raise Overloaded if a body of `size` bytes would be dropped if it arrived now."""
        too_many = self.held_bytes + size - self.max_bytes
        own = self._arriving_bytes[source] + size
        if too_many > 0 and too_many > self._larger_bytes(source, size) + sum(
            count - own for other, count in self._arriving_bytes.items() if other != source and count > own
        ):
            raise self.overloaded(size)

    def take(self, hold: Hold, size: int) -> None:
        """Count bytes of a body; other bodies may be dropped for them.

        Raises:
            Overloaded: this body itself is the one to drop.
        """
        while self.held_bytes + size > self.max_bytes:
            other = self._next_to_drop(hold, size)
            if other is hold:
                raise self.overloaded(size)
            self._drop(other)
        self.held_bytes += size
        self._arriving_bytes[hold.source] += size

    def drop_slowest(self, count: int, least_bytes_per_s: int) -> None:
        """Drop bodies to free their places: the slowest of the source with the most arriving bodies.

        Args:
            count: number of bodies, at most.
            least_bytes_per_s: rate from which on a body is kept.
        """
        bodies = max(self._arriving.values(), key=len, default={})
        slow = [(rate, body) for body in bodies if (rate := body.rate()) < least_bytes_per_s]
        for _, body in heapq.nsmallest(count, slow, key=itemgetter(0)):
            self._drop(body)

    def finish(self, hold: Hold) -> None:
        """Remove a body from those that are arriving."""
        bodies = self._arriving.get(hold.source, {})
        if hold in bodies:
            del bodies[hold]
            self._arriving_bytes[hold.source] -= hold.bytes
            if not bodies:
                del self._arriving[hold.source], self._arriving_bytes[hold.source]

    def overloaded(self, size: int) -> Overloaded:
        """Make the error of a body that does not fit, with value and limit."""
        return Overloaded(
            f"{self.held_bytes} bytes are in work and {size} more would exceed the limit, {self.max_bytes} "
            "(max_bytes_in_flight); the Retry-After header says when to retry",
            retry_after_s=self.retry_after_s(size),
        )

    def dropped(self) -> Overloaded:
        """Make the error of a body that was dropped while it arrived."""
        return Overloaded(
            "the body was dropped while it arrived, for others that arrive faster or take less memory: all bodies "
            f"together may take {self.max_bytes} bytes (max_bytes_in_flight); the Retry-After header says when to "
            "retry",
            retry_after_s=self.retry_after_s(0),
            at_once=True,
        )

    def retry_after_s(self, size: int) -> int:
        """Predict the whole seconds until `size` bytes fit, at the rate of the last ten seconds."""
        self._forget()
        too_many = self.held_bytes + size - self.max_bytes
        if too_many <= 0 or not self._answered:
            return 1
        span_s = max(1.0, time.monotonic() - self._answered[0][0])
        pace = sum(answered for _, answered in self._answered) / span_s
        return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(too_many / max(pace, 1.0))))

    def _next_to_drop(self, asking: Hold, size: int) -> Hold:
        heaviest = asking.source
        most = self._arriving_bytes[heaviest] + size
        for source, count in self._arriving_bytes.items():
            if count > most:
                heaviest, most = source, count
        ranks = {
            body: (body.is_slow(), body.bytes + size * (body is asking) > _SMALL_BODY_BYTES)
            for body in self._arriving[heaviest]
            if body is asking or body.bytes
        }
        return max(reversed(ranks), key=ranks.__getitem__)  # the youngest among equals

    def _larger_bytes(self, source: str, size: int) -> int:
        """Bytes that dropping the large bodies of a source would free for a small body of `size` bytes."""
        if size > _SMALL_BODY_BYTES:
            return 0
        return sum(body.bytes for body in self._arriving.get(source, ()) if body.bytes > _SMALL_BODY_BYTES)

    def _drop(self, body: Hold) -> None:
        self.finish(body)
        self.held_bytes -= body.bytes
        body.bytes, body.was_dropped = 0, True
        body.on_drop()

    def _forget(self) -> None:
        oldest = time.monotonic() - _ANSWERED_WINDOW_S
        while self._answered and self._answered[0][0] < oldest:
            self._answered.popleft()


def _nothing() -> None:
    pass
