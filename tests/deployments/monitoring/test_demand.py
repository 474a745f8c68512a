"""Tests of the demand of a replica: how many replicas its work would keep busy."""

from itertools import pairwise

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
        (1.0, 0.0, 5.0, -0.5, 1.0),  # half of what it does is new; the rest of the backlog takes a while
        (1.0, 0.0, 4.0, -1.0, 0.4),  # nothing new comes
        (1.0, 1.0, 0.0, 0.0, MAX_TIMES_ANSWERED),  # clients that ask again and again
        (0.0, 1.0, 0.0, 0.0, 0.0),
    ],
)
def test_demand_is_what_arrives(busy: float, refused: float, backlog_s: float, growth: float, replicas: float) -> None:
    """Demand is what is done, what piles up, and what is refused, in replicas."""
    assert demand(busy=busy, refused=refused, backlog_s=backlog_s, growth=growth) == pytest.approx(replicas)


@given(busy=SHARES, refused=SHARES, backlog_s=st.floats(0, LONGEST_S), growth=st.floats(-FASTEST, FASTEST))
def test_demand_is_finite(busy: float, refused: float, backlog_s: float, growth: float) -> None:
    """Demand is never negative, and never below the busy share while the backlog does not shrink."""
    largest = MAX_TIMES_ANSWERED * (1 + FASTEST) + LONGEST_S / BACKLOG_DONE_IN_S
    found = demand(busy=busy, refused=refused, backlog_s=backlog_s, growth=growth)
    assert (busy if growth >= 0 else 0.0) <= found <= largest


@given(backlogs_s=st.lists(st.floats(0, 5), min_size=2, max_size=30))
def test_a_backlog_that_rises_and_falls_is_no_more_than_its_work(backlogs_s: list[float]) -> None:
    """Over any time, demands without the backlogs themselves add up to the work that arrived, whatever its pieces."""
    demands = [
        demand(busy=1.0, refused=0.0, backlog_s=0.0, growth=max(-1.0, after - before))
        for before, after in pairwise(backlogs_s)
    ]
    arrived = sum(max(0.0, 1.0 + after - before) for before, after in pairwise(backlogs_s))
    assert sum(demands) == pytest.approx(arrived)
