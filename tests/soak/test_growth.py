"""Tests of telling growth from use that only comes and goes."""

from collections.abc import Callable, Iterator

import pytest

from harness.roles import REPLICA, TRACKER, WORKER
from tests.soak.census import Reading
from tests.soak.growth import Growth, growths, unlike_the_start
from tests.soak.soaking import life
from tests.soak.traffic import is_burst


def _fds(readings: Iterator[Reading] | list[Reading]) -> Growth:
    return next(growth for growth in growths(list(readings), 600) if growth.quantity == "fds")


def test_a_leak_within_a_process_is_growth() -> None:
    """A leak within a process is growth: one fd in ten seconds is 40 in the later two thirds of ten minutes."""
    growth = _fds(life(1, 0, 600, lambda at_s, _: 20 + at_s / 10))
    assert growth.within == pytest.approx(40, abs=1)
    assert growth.across is None
    assert growth.is_fault


@pytest.mark.parametrize(
    "fds",
    [
        lambda at_s, _: 20 + 50 * is_burst(at_s),  # connections of a burst
        lambda at_s, _: min(200, 20 + at_s),  # pools that fill up once
        lambda at_s, _: 20 + at_s % 3,
    ],
    ids=["bursts", "warm-up", "noise"],
)
def test_what_comes_and_goes_is_not_growth(fds: Callable[[int, int], float]) -> None:
    assert not _fds(life(1, 0, 600, fds)).is_fault


def test_what_successors_inherit_is_growth() -> None:
    """Growth is found across workers that live for 40 s only, each of which starts with one fd more."""
    lives = (life(n, 40 * n, 40 * n + 40, lambda _, __, n=n: 20 + n, WORKER) for n in range(15))  # type: ignore[misc]
    growth = _fds([reading for life in lives for reading in life])
    assert growth.within is None
    assert growth.across == pytest.approx(10, abs=1)
    assert growth.is_fault


def test_what_is_started_anew_inherits_nothing() -> None:
    """A new replica inherits nothing: a difference in size at the same age, after a burst, is not growth."""
    lives = [*life(1, 0, 300, lambda *_: 50), *life(2, 300, 600, lambda *_: 500)]
    assert _fds(lives).across is None
    assert not _fds(lives).is_fault


def test_the_first_third_does_not_count() -> None:
    """The first third of a run does not count: successors that inherit more only there are no fault."""
    lives = (life(n, 40 * n, 40 * n + 40, lambda _, __, n=n: 20 + 10 * min(n, 5), WORKER) for n in range(15))  # type: ignore[misc]
    assert not _fds([reading for life in lives for reading in life]).is_fault


def test_successors_that_fill_up_alike_are_not_growth() -> None:
    """Successors are compared at the same age, so one that lives longest and holds most is no fault."""
    lives = [life(n, 20 * n, 20 * n + 20, lambda _, age_s: 20 + age_s, WORKER) for n in range(15)]
    lives.append(life(15, 300, 600, lambda _, age_s: 20 + min(age_s, 60), WORKER))
    assert not _fds([reading for life in lives for reading in life]).is_fault


def test_a_successor_may_warm_up_too() -> None:
    """The first minute of a replica that replaces a killed one does not count."""
    lives = [*life(1, 0, 300, lambda *_: 50), *life(2, 300, 600, lambda _, age_s: min(50, 20 + age_s))]
    assert not _fds(lives).is_fault


def test_growth_of_rays_own_processes_is_no_fault() -> None:
    growth = _fds(life(1, 0, 600, lambda at_s, _: 20 + at_s, "dashboard"))
    assert growth.within is not None
    assert growth.within > 100
    assert not growth.is_fault


def test_a_few_readings_do_not_tell() -> None:
    growth = _fds(life(1, 540, 600, lambda at_s, _: at_s))
    assert (growth.within, growth.across, growth.is_fault) == (None, None, False)


def test_processes_that_stay_behind_are_seen_per_replica() -> None:
    """Leftover processes are counted for each replica: more replicas may have more workers, one keeps one tracker."""
    start = {REPLICA: 1, WORKER: 1, TRACKER: 1}
    assert unlike_the_start(start, {REPLICA: 2, WORKER: 2, TRACKER: 2}) == []
    assert unlike_the_start(start, {REPLICA: 1, WORKER: 1, TRACKER: 2, "haproxy": 3}) == [
        "resource tracker: 1 at the start, 2 at the end"
    ]
