"""Rate limit for log lines of one kind: the first lines are logged in full, the others are only counted.

Without the limit a client could fill the disk with bad requests: each one costs the client less than its log line costs
the service.
"""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

BURST_LINES: Final = 50
"""Lines of one kind that are logged in full in a burst."""

LINES_PER_S: Final = 1.0
"""Lines of one kind that are logged in full each second in the long run."""

REPORT_PERIOD_S: Final = 10.0
"""Interval at which the log says how many lines were left out."""


Kind = TypeVar("Kind", bound=Hashable)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float  # when `tokens` was computed
    left_out: int = 0
    since_s: float = 0.0  # when the first of these lines was left out


@dataclass(frozen=True, slots=True)
class LeftOut(Generic[Kind]):
    """Lines of one kind that were not logged."""

    kind: Kind
    count: int
    span_s: float


class LogRate(Generic[Kind]):
    """A token bucket for each kind of line. Safe for use by several threads.

    Args:
        burst: lines of a kind that are admitted in a burst.
        lines_per_s: lines of a kind that are admitted each second in the long run.
        clock: returns the time in seconds.
    """

    def __init__(
        self, burst: int = BURST_LINES, lines_per_s: float = LINES_PER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._lines_per_s, self._clock = burst, lines_per_s, clock
        self._buckets: dict[Kind, _Bucket] = {}  # as many as there are places in the code that log
        self._lock = threading.Lock()

    def admits(self, kind: Kind) -> bool:
        """Return whether to log a line of this kind; a line that is not logged is counted."""
        now_s = self._clock()
        with self._lock:
            if (bucket := self._buckets.get(kind)) is None:
                bucket = self._buckets[kind] = _Bucket(self._burst, now_s)
            bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._lines_per_s)
            bucket.at_s = now_s
            if bucket.tokens >= 1:
                bucket.tokens -= 1
                return True
            if not bucket.left_out:
                bucket.since_s = now_s
            bucket.left_out += 1
            return False

    def left_out(self, after_s: float = REPORT_PERIOD_S) -> list[LeftOut[Kind]]:
        """Return the counts of left-out lines, one record a kind, if the first is `after_s` old; reset those counts."""
        now_s = self._clock()
        with self._lock:
            due = [each for each in self._buckets.items() if each[1].left_out and now_s - each[1].since_s >= after_s]
            found = [LeftOut(kind, bucket.left_out, now_s - bucket.since_s) for kind, bucket in due]
            for _, bucket in due:
                bucket.left_out = 0
        return found
