"""Detection of resources that processes hold and that grow without end.

A quantity of a role (its fds, say) is read every ten seconds. Two things can grow:

- **within** a process: the median slope over all pairs of readings of one process. Only readings after the first third
  of the run count. Of a process that was started later, only those after its first minute count: until then pools and
  caches fill up.
- **across** successors: the median slope over all pairs of readings of two workers whose ages differ by less than ten
  seconds. A killed worker is replaced by a fork, which inherits all that its parent has collected. No other role
  inherits anything: two replicas of one age may differ by 60 MiB in half an hour, because of bursts.

A median over pairs (Theil, 1950; Sen, 1968) ignores a burst, and a reading in the middle of a restart. The growth is
the slope times the length of the judged part of the run. If the greater of the two is above `TOLERANCE`, it is a fault.
With fewer than `_FEWEST_PAIRS` pairs of a kind there is no result.

Shared memory has a bound instead, because slots fill up at their first use and then stay (`slots_bound_bytes`). The
number of processes after the run, without load, must be that of the start.
"""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.roles import DARKROOM, FORKSERVER, LAUNCHER, REPLICA, TRACKER, WATCHDOG, WORKER
from tests.soak.census import Reading

_MIB: Final = 1 << 20
_SETTLED_AFTER_S: Final = 60.0
_SAME_AGE_S: Final = 10.0
_SHORTEST_SPAN_S: Final = 20.0
_FEWEST_PAIRS: Final = 10

TOLERANCE: Final[Mapping[str, Mapping[str, float]]] = {
    LAUNCHER: {"fds": 2, "threads": 1, "private_bytes": 8 * _MIB},
    REPLICA: {"fds": 32, "threads": 4, "private_bytes": 48 * _MIB},
    FORKSERVER: {"fds": 2, "threads": 1, "private_bytes": 8 * _MIB},
    WORKER: {"fds": 2, "threads": 2, "private_bytes": 64 * _MIB},
    WATCHDOG: {"fds": 0, "threads": 0, "private_bytes": 2 * _MIB},
    TRACKER: {"fds": 2, "threads": 1, "private_bytes": 8 * _MIB},
}
"""Growth that is allowed in the judged part of a run.

The private memory of a replica rises and falls with the bodies in work. That of a worker follows the largest image that
it has decoded, because freed memory is kept (see `pipeline/decode/memory.py`). A replica's fds are the connections that
HAProxy keeps, and the pipes of the DataLoaders of the last one or two dead workers (9 each) until Python collects them:
18 more, after 6 deaths as after 24.
"""


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of one quantity of a role in the judged part of a run; None if there are too few readings."""

    role: str
    quantity: str
    within: float | None
    across: float | None

    @property
    def is_fault(self) -> bool:
        """Return whether the growth is above the tolerance for Darkroom's own processes."""
        limit = TOLERANCE.get(self.role, {}).get(self.quantity)
        return limit is not None and any(grown is not None and grown > limit for grown in (self.within, self.across))


FORKED: Final = frozenset({WORKER})
"""Roles whose processes inherit the memory of their parent."""


def growths(readings: Sequence[Reading], ended_at_s: float) -> list[Growth]:
    """Return the growth of every role and quantity."""
    judged_from_s = ended_at_s / 3
    span_s = ended_at_s - judged_from_s
    late = [reading for reading in readings if reading.at_s >= judged_from_s]
    by_role: defaultdict[str, list[Reading]] = defaultdict(list)
    for reading in late:
        by_role[reading.role].append(reading)
    quantities = ("fds", "threads", "private_bytes")

    def across(role: str, quantity: str) -> float | None:
        return _across(by_role[role], quantity, span_s) if role in FORKED else None

    return [
        Growth(role, quantity, _within(by_role[role], quantity, span_s), across(role, quantity))
        for role in sorted(by_role, key=lambda role: (role not in DARKROOM, role))
        for quantity in quantities
    ]


def _within(readings: Sequence[Reading], quantity: str, span_s: float) -> float | None:
    settled = [reading for reading in readings if reading.age_s >= _SETTLED_AFTER_S]
    pairs = ((a, b) for a, b in itertools.combinations(settled, 2) if a.pid == b.pid)
    return _median_slope(pairs, quantity, span_s)


def _across(readings: Sequence[Reading], quantity: str, span_s: float) -> float | None:
    pairs = (
        (a, b)
        for a, b in itertools.combinations(readings, 2)
        if a.pid != b.pid and abs(a.age_s - b.age_s) < _SAME_AGE_S
    )
    return _median_slope(pairs, quantity, span_s)


def _median_slope(pairs: Any, quantity: str, span_s: float) -> float | None:
    slopes = [
        (getattr(b, quantity) - getattr(a, quantity)) / (b.at_s - a.at_s)
        for a, b in pairs
        if b.at_s - a.at_s >= _SHORTEST_SPAN_S
    ]
    return statistics.median(slopes) * span_s if len(slopes) >= _FEWEST_PAIRS else None


def slots_bound_bytes(slots: int, crop_px: int, largest_images_bytes: int, kept_bytes: int) -> int:
    """Return the most shared memory that a replica and its workers hold: each slot's, and large images in work."""
    return slots * (kept_bytes + crop_px * crop_px * 3) + largest_images_bytes


def unlike_the_start(start: Mapping[str, int], end: Mapping[str, int]) -> list[str]:
    """Return Darkroom's roles with more processes for each replica than at the start, one line each."""
    replicas = (max(1, start.get(REPLICA, 0)), max(1, end.get(REPLICA, 0)))
    return [
        f"{role}: {start.get(role, 0)} at the start, {end[role]} at the end"
        for role in DARKROOM
        if end.get(role, 0) * replicas[0] > start.get(role, 0) * replicas[1]
    ]
