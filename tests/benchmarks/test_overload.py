"""Tests of the arithmetic of `make overload`."""

from collections import Counter

from benchmarks import overload
from deployments.live_config import LiveConfig
from harness.load import Load


def test_a_row_tells_shares_of_what_was_sent_and_of_what_can_be_answered() -> None:
    load = Load(2.0, sent=200, took_s=[0.5] * 99 + [2.0], others=Counter({"503": 98, "closed": 2}))
    facts = {"photographs": "500 x 375", "load": "8 clients", "max_queue_wait_s": 0.25, "grown_bytes": 3e6}
    row = overload.row({**facts, **overload.of(load, capacity_per_s=40.0)})
    assert row == ["500 x 375", "8 clients", "0.25", "50.0", "1.25", "49.0%", "49", "500", "500", "2", "+3 MB"]
    assert len(row) == len(overload.HEADER)


def test_where_nothing_was_answered_nothing_is_divided_by() -> None:
    facts = {"photographs": "", "load": "", "max_queue_wait_s": 1.0, "grown_bytes": 0}
    assert overload.row({**facts, **overload.of(Load(1.0), 1.0)})[3:8] == ["0.0", "0.00", "0.0%", "0", "inf"]


def test_the_default_is_among_what_is_measured() -> None:
    for plan in (overload.FULL_PLAN, overload.QUICK_PLAN):
        assert LiveConfig().max_queue_wait_s in plan.waits_s
        assert plan.open_for_s > 0
    assert overload.FULL_PLAN.open_for_s > 2 * LiveConfig().max_queue_wait_s, (
        "the queue is not full for half of the time"
    )


def test_a_cost_is_told_in_hundredths_of_a_millisecond() -> None:
    assert overload.cost_row({"what": "a refusal", "ms": 0.1449, "per_s": 1234.5}) == ["a refusal", "0.14", "1234"]
