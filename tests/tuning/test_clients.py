"""Tests of the number of clients."""

import pytest

from tuning.clients import MAX_CLIENTS, clients_for, usual_bound_s


@pytest.mark.parametrize(("alone_s", "bound_s"), [(0.001, 0.5), (0.02, 0.5), (0.05, 0.5), (0.06, 0.6), (2.0, 20.0)])
def test_the_bound_follows_from_the_machine(alone_s: float, bound_s: float) -> None:
    """Without a given bound it is ten times a single request's time, and at least half a second."""
    assert usual_bound_s(alone_s) == pytest.approx(bound_s)


@pytest.mark.parametrize(
    ("bound_s", "requests_per_s", "clients"),
    [(0.5, 60, 18), (0.1, 60, 3), (0.01, 60, 1), (0.5, 5000, MAX_CLIENTS), (600, 60, MAX_CLIENTS), (5, 2, 6)],
)
def test_as_many_clients_as_the_bound_allows(bound_s: float, requests_per_s: float, clients: int) -> None:
    """The number of clients follows from the bound by Little's law with a margin: at least one, at most the limit."""
    assert clients_for(bound_s, requests_per_s) == clients
    assert clients_for(bound_s, requests_per_s, 5) == min(5, clients)
