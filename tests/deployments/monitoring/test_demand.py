"""Tests of the demand of a replica: how many replicas its work would keep busy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.monitoring.demand import BACKLOG_DONE_IN_S, MAX_TIMES_ANSWERED, demand

SHARES = st.floats(0, 1)
LONGEST_S, FASTEST = 600.0, 600.0


@pytest.mark.parametrize(
    ("busy", "refused", "backlog_s", "growth", "replicas"),
    [
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.4, 0.0, 0.0, 0.0, 0.4),
        (1.0, 0.0, 3.0, 1.5, 2.5 + 3.0 / BACKLOG_DONE_IN_S),  # one answers, work for another one and a half piles up
        (1.0, 0.5, 0.0, 0.0, 2.0),  # one of two is refused
        (1.0, 0.0, 5.0, -0.5, 1.5),  # a backlog that shrinks is work all the same
        (1.0, 1.0, 0.0, 0.0, MAX_TIMES_ANSWERED),  # clients that ask again and again
        (0.0, 1.0, 0.0, 0.0, 0.0),
    ],
)
def test_demand_is_what_arrives(busy: float, refused: float, backlog_s: float, growth: float, replicas: float) -> None:
    """Demand is what is done, what piles up, and what is refused, in replicas."""
    assert demand(busy=busy, refused=refused, backlog_s=backlog_s, growth=growth) == pytest.approx(replicas)


@given(busy=SHARES, refused=SHARES, backlog_s=st.floats(0, LONGEST_S), growth=st.floats(-FASTEST, FASTEST))
def test_demand_is_never_below_what_is_done(busy: float, refused: float, backlog_s: float, growth: float) -> None:
    """Demand is finite, and at least the busy share: a busy replica is never stopped for the sake of other figures."""
    largest = MAX_TIMES_ANSWERED * (1 + FASTEST) + LONGEST_S / BACKLOG_DONE_IN_S
    assert busy <= demand(busy=busy, refused=refused, backlog_s=backlog_s, growth=growth) <= largest
