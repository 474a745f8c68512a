"""Limits on what a request may wait and cost: one that is beyond them is refused before it has cost anything."""

import math
from collections.abc import Iterable
from typing import Final

from deployments.request_errors import Overloaded, RequestTooCostly

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


def check_request(prices_s: Iterable[float], max_work_s: float) -> None:
    """Checks the images of one request together.

    Args:
        prices_s: of each.
        max_work_s: the most that they may cost in all.

    Raises:
        RequestTooCostly: they cost more.
    """
    prices_s = list(prices_s)
    if sum(prices_s) > max_work_s:
        raise RequestTooCostly(
            f"decoding the {len(prices_s)} images of the request would take {sum(prices_s):.1f} s of a processor core; "
            f"the limit is {max_work_s:g} s (max_request_work_s): send fewer in one request, or smaller ones"
        )


def _whole_seconds(seconds: float) -> int:
    return min(_MAX_RETRY_AFTER_S, max(1, math.ceil(seconds)))
