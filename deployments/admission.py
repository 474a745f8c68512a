"""Admission control: refuses a request that would wait too long or exceed the request limit, before it costs work."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from deployments.live_config import LiveConfig
from deployments.request_errors import Overloaded, RequestTooCostly

_MAX_RETRY_AFTER_S: Final = 60

_SCARCE_FROM_SHARE: Final = 0.75
"""Share of taken places above which slow bodies are dropped."""

_STALE_AFTER_S: Final = 0.01
"""Age above which a predicted wait is computed again under overload: walking the queue costs time as well."""


@dataclass(frozen=True, slots=True)
class Places:
    """Limits on the requests that a replica works on at a time, and on those that wait before them; -1: no limit."""

    ongoing: int
    queued: int

    def check(self, taken: int) -> None:
        """Raise Overloaded if no place is free. Serve would refuse the request as well, but in plain text."""
        if self.queued >= 0 and taken >= self.ongoing + self.queued:
            raise Overloaded(
                f"{taken} requests are in the replica; the limit is {self.ongoing + self.queued} "
                "(max_ongoing_requests and max_queued_requests together)"
            )

    def lacking(self, taken: int) -> int:
        """Return the number of places to free, so that the next request finds one."""
        return max(0, taken + 1 - math.ceil(self.ongoing * _SCARCE_FROM_SHARE)) if self.ongoing >= 0 else 0

    def rounds(self, taken: int) -> float:
        """Factor for the predicted wait: the engine knows only the requests at work, not the others."""
        return max(1.0, taken / self.ongoing)


UNLIMITED: Final = Places(-1, -1)


class Admission:
    """Admits or refuses a request by the length of its body, its time limit, and the requests in the replica.

    A long body means a large image, which waits for more work than a small one. For one event loop.

    Args:
        expected_wait_s: bytes of a body -> predicted seconds until the engine begins with its images.
        live: reads the settings in force.
        places: reads the limits on requests in the replica.
        make_places: called with the number of places to free, for each request while few are free.

    Attributes:
        taken: requests in the replica.
    """

    def __init__(
        self,
        expected_wait_s: Callable[[int], float],
        live: Callable[[], LiveConfig],
        places: Callable[[], Places],
        make_places: Callable[[int], None],
    ) -> None:
        self._expected_wait_s, self._live = expected_wait_s, live
        self._places, self._make_places = places, make_places
        self.taken = 0
        self._foreseen_at_s, self._foreseen_bytes, self._foreseen_s = 0.0, 0, 0.0

    def check(self, body_bytes: int, own_s: float) -> None:
        """Check whether a request would wait too long or finds no place.

        Args:
            body_bytes: announced length of its body; 0 if unknown.
            own_s: time limit of the request in seconds.

        Raises:
            Overloaded: the replica has too much work already.
        """
        places = self._places()
        if lacking := places.lacking(self.taken):
            self._make_places(lacking)
        places.check(self.taken)
        check_wait(self._foreseen(body_bytes) * places.rounds(self.taken), self._live().max_queue_wait_s, own_s)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a request in the replica while the block runs."""
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    def _foreseen(self, body_bytes: int) -> float:
        """Predicted seconds of waiting in the engine."""
        now_s = time.monotonic()
        is_fresh = now_s - self._foreseen_at_s < _STALE_AFTER_S and self._foreseen_bytes <= body_bytes
        if not is_fresh or self._foreseen_s <= self._live().max_queue_wait_s:
            self._foreseen_at_s, self._foreseen_bytes = now_s, body_bytes
            self._foreseen_s = self._expected_wait_s(body_bytes)
        return self._foreseen_s


def check_wait(expected_s: float, max_queue_wait_s: float, own_s: float) -> None:
    """Check whether a request would wait longer than allowed, before any work is spent on it.

    Without this limit a queue grows for as long as requests arrive faster than they are answered, until every answer
    is late.

    Args:
        expected_s: predicted seconds that the request would wait.
        max_queue_wait_s: limit for every request.
        own_s: time limit of this request in seconds.

    Raises:
        Overloaded: the wait would exceed one of the two limits.
    """
    limit_s = min(max_queue_wait_s, own_s)
    if expected_s > limit_s:
        named = "max_queue_wait_s" if max_queue_wait_s <= own_s else "the time limit of the request"
        raise Overloaded(
            f"its images would wait for {expected_s:.2f} s; the limit is {limit_s:g} s ({named}); the Retry-After "
            "header says when to retry",
            retry_after_s=_whole_seconds(expected_s - limit_s),
            at_once=expected_s <= max_queue_wait_s,
        )


def check_request(costs_s: Iterable[float], max_work_s: float) -> None:
    """Check the decoding work of all images of one request together.

    Args:
        costs_s: predicted seconds of a core for each image.
        max_work_s: limit on their sum.

    Raises:
        RequestTooCostly: the sum exceeds the limit.
    """
    costs_s = list(costs_s)
    if sum(costs_s) > max_work_s:
        raise RequestTooCostly(
            f"decoding the {len(costs_s)} images of the request would take {sum(costs_s):.1f} s of a processor core; "
            f"the limit is {max_work_s:g} s (max_request_work_s): send fewer in one request, or smaller ones"
        )


def _whole_seconds(seconds: float) -> int:
    return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
