"""Tests of timing work in this process."""

import itertools

import pytest

from harness.timing import done_per_s, seconds_of


def test_the_first_runs_do_not_count() -> None:
    """Warm-up runs do not count; on this clock every run takes a second more than the one before."""
    ticks = iter([0.0, 1.0, 1.0, 3.0, 3.0, 6.0])
    calls = list[None]()
    assert seconds_of(lambda: calls.append(None), runs=2, warm_up=1, clock=lambda: next(ticks)) == [2.0, 3.0]
    assert len(calls) == 3


def test_items_are_worked_on_in_turn_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0.0, 0.5)
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    seen = list[str]()
    assert done_per_s(seen.append, ["a", "b"], 1.5) == 2.0
    assert seen == ["a", "b", "a"]


def test_without_items_there_is_no_rate() -> None:
    with pytest.raises(ValueError, match="nothing to work on"):
        done_per_s(str, [], 1.0)
