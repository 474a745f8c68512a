"""Limit on waiting: a request that would wait longer is refused before it has cost anything."""

import math
from typing import Final

from pipeline.errors import Overloaded

_MAX_RETRY_AFTER_S: Final = 60


def check_wait(expected_s: float, max_wait_s: float, own_s: float) -> None:
    """Checks whether a request would wait longer than it should, before it has cost anything.

    Without this limit a queue grows for as long as more comes than is answered, until every answer is late.

    Args:
        expected_s: seconds that it would wait.
        max_wait_s: the most that any may wait.
        own_s: the time that this request has.

    Raises:
        Overloaded: it would wait longer than one of them.
    """
    limit_s = min(max_wait_s, own_s)
    if expected_s > limit_s:
        named = "max_wait_s" if max_wait_s <= own_s else "the time that the request has"
        raise Overloaded(
            f"its images would wait for {expected_s:.2f} s; the limit is {limit_s:g} s ({named}); the Retry-After "
            "header says when less should be waiting",
            retry_after_s=_whole_seconds(expected_s - limit_s),
            at_once=expected_s <= max_wait_s,
        )


def _whole_seconds(seconds: float) -> int:
    return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
