"""Tests of the search for the heaviest load that settings answer within a bound."""

from dataclasses import replace
from typing import cast

import pytest

from tests.tuning.measured import PRESENT, seen
from tuning.bound_search import BoundSearch, keeps_bound
from tuning.load_check import LoadCheck, LoadResult
from tuning.replica_settings import Settings


class _Queue:
    """Stands in for a service of `rate` images a second; with random arrivals the wait grows as in a queue."""

    def __init__(self, rate: float, bound_s: float) -> None:
        self.rate, self.bound_s = rate, bound_s

    def closed_loop(self, settings: Settings, clients: int, for_s: float) -> LoadResult:  # noqa: ARG002
        return seen(settings, clients=clients, offered=self.rate, p99_s=clients / self.rate)

    def open_loop(self, settings: Settings, rate: float, for_s: float) -> LoadResult:  # noqa: ARG002
        return seen(settings, offered=rate, p99_s=2.3 / max(1e-9, self.rate - rate))


def _held(rate: float, bound_s: float, most_clients: int = 256) -> tuple[BoundSearch, list[str]]:
    check = cast(LoadCheck, _Queue(rate, bound_s))
    holding, titles = BoundSearch(check, PRESENT, rate, 1, 1.0, most_clients), list[str]()
    while (step := holding.next()) is not None:
        titles.append(step.title)
        step.act()
    return holding, titles


@pytest.mark.parametrize(("bound_s", "clients", "open_loop"), [(0.1, 6, 36), (0.5, 24, 54), (1.0, 48, 54)])
def test_both_kinds_of_load_are_held_against_the_bound(bound_s: float, clients: int, open_loop: float) -> None:
    """Both kinds of load are compared with the bound.

    At 60 images/s it allows 6 clients (Little's law), and a lower rate of random requests.
    """
    holding, titles = _held(60.0, bound_s)
    assert holding.clients.heaviest == clients
    assert holding.closed_loop[clients].p99_s <= bound_s
    assert holding.most_open is not None
    assert holding.most_open.offered == pytest.approx(open_loop)
    assert len(titles) <= 8
    assert all(title.startswith("the bound: ") for title in titles)


def test_a_bound_that_nobody_meets_is_no_hold() -> None:
    """A bound that even one client and the least random load miss ends the search without a result."""
    holding, _ = _held(60.0, 0.01)
    assert holding.clients.heaviest is None
    assert not holding.keeps_bound_of_one()
    assert holding.most_open is None
    assert holding.too_many_open is not None


def test_a_bound_is_out_of_reach_only_if_a_longer_look_says_so() -> None:
    """A bound counts as unreachable only after a longer measurement, because one client may have had bad luck."""
    holding, _ = _held(60.0, 0.0165)
    assert holding.clients.heaviest is None
    holding._check.bound_s = 0.017
    assert holding.keeps_bound_of_one()
    assert holding.most_clients.clients == 1


def test_a_bound_that_does_not_matter_ends_at_the_most_clients() -> None:
    holding, _ = _held(60.0, 600.0, most_clients=20)
    assert holding.clients.heaviest == 16
    assert holding.clients.too_much is None


@pytest.mark.parametrize(
    "load",
    [
        replace(seen(), p99_s=0.11),
        seen(refused=1),
        seen(lost=1),
        replace(seen(), answered=0.0),
    ],
    ids=["late", "refused", "lost", "nothing"],
)
def test_who_is_late_or_sent_away_is_not_held(load: LoadResult) -> None:
    assert keeps_bound(seen(), 0.1)
    assert not keeps_bound(load, 0.1)
