"""Demand on a replica: its arriving work, in replicas that this work would keep busy. Autoscaling adds demands up.

A count of requests is not enough: one request holds 1 image or 256, a count stops at the limit on requests, and those
that were refused are not in it. So three measurements are put together:

- the busy share of the part that is busiest: workers, device or interpreter, or the cores that workers and model share
  on a CPU. It cannot exceed 1;
- the growth of the backlog, in seconds of work a second: what arrives beyond that, or below it while a backlog shrinks;
- the share of the requests that were refused: their work is estimated from the answered ones.

Growth has a sign, as the backlog of a replica that gets requests of many images rises and falls all the time. A backlog
has to be worked off too, so it counts a little by itself.
"""

from typing import Final

DEMAND_OVER_S: Final = 3
"""Whole seconds over which a demand is measured: one large request, which others cannot share, counts little."""

BACKLOG_DONE_IN_S: Final = 10.0
"""Seconds within which further replicas should work off a backlog."""

MAX_TIMES_ANSWERED: Final = 4.0
"""Largest ratio of all requests to answered ones that counts: refused clients may ask again at once, and often."""


def demand(*, busy: float, refused: float, backlog_s: float, growth: float) -> float:
    """Compute how many replicas like this one its work would keep busy.

    Args:
        busy: busy share of the busiest part, 0 to 1.
        refused: share of the requests that were refused because of too much work, 0 to 1.
        backlog_s: seconds until all work that waits will be done.
        growth: change of `backlog_s`, in seconds a second.
    """
    times_answered = 1 / max(1 - refused, 1 / MAX_TIMES_ANSWERED)
    return max(0.0, busy + growth) * times_answered + backlog_s / BACKLOG_DONE_IN_S
