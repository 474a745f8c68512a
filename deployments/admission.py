"""What a replica takes on: against the limit that bounds its memory, and the one that bounds how long it lets wait."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.errors import Overloaded

_WINDOW_S: Final = 10.0
_MAX_RETRY_AFTER_S: Final = 60


class Hold:
    """What one request has in memory."""

    def __init__(self, admission: "Admission") -> None:
        self.bytes = 0
        self._admission = admission

    def take(self, size: int) -> None:
        """Counts bytes that are about to be read.

        Raises:
            Overloaded: the replica has no room for them now.
        """
        self._admission.check(size)
        self._admission.held_bytes += size
        self.bytes += size


class Admission:
    """Counts the bytes of bodies from before they are read until they are answered. For one event loop.

    Args:
        max_bytes: the most that may be held; may be replaced at any time.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._answered: deque[tuple[float, int]] = deque()  # when, and how many bytes; of the last `_WINDOW_S`

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """Holds what a request takes, until the block ends."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self.held_bytes -= hold.bytes
            self._answered.append((time.monotonic(), hold.bytes))
            self._forget()

    def check(self, size: int) -> None:
        """Raises Overloaded where `size` bytes more are too many; the message names value and limit."""
        if self.held_bytes + size > self.max_bytes:
            raise Overloaded(
                f"{self.held_bytes} bytes are in work and {size} more would exceed the limit, {self.max_bytes} "
                "(max_bytes_in_flight); the Retry-After header says when it should have room",
                retry_after_s=self.retry_after_s(size),
            )

    def check_wait(self, expected_s: float, limit_s: float) -> None:
        """Raises Overloaded where a request would wait longer than it should, before it has cost anything.

        Without this limit a queue grows for as long as more comes than is answered, until every answer is late.
        """
        if expected_s > limit_s:
            raise Overloaded(
                f"its images would wait for {expected_s:.2f} s; the limit is {limit_s:g} s (max_wait_s, or the time "
                "that the request allows); the Retry-After header says when less should be waiting",
                retry_after_s=_whole_seconds(expected_s - limit_s),
            )

    def retry_after_s(self, size: int) -> int:
        """Whole seconds until there should be room for `size` bytes, at the pace of the last ten seconds."""
        self._forget()
        too_many = self.held_bytes + size - self.max_bytes
        if too_many <= 0 or not self._answered:
            return 1
        span_s = max(1.0, time.monotonic() - self._answered[0][0])
        pace = sum(answered for _, answered in self._answered) / span_s
        return _whole_seconds(too_many / max(pace, 1.0))

    def _forget(self) -> None:
        oldest = time.monotonic() - _WINDOW_S
        while self._answered and self._answered[0][0] < oldest:
            self._answered.popleft()


def _whole_seconds(seconds: float) -> int:
    return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
