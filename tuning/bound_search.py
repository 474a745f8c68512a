"""Finds the heaviest loads that settings answer within a latency bound, on the running service.

Two kinds of load are measured, since their results differ widely. Closed loop: each client sends its next request after
its answer, so never more requests are in work than there are clients. Open loop: requests arrive at random times
(Poisson), as from many independent users, so several may come at the same moment.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from tuning.clients import CLIENT_COUNTS, MEAN_SHARE_OF_BOUND, clients_for
from tuning.heaviest_load import HeaviestLoad
from tuning.load_check import LoadCheck, LoadResult
from tuning.replica_settings import Settings
from tuning.step import Step, number

PEAK_SHARES: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the peak that are sent at random times."""

RANDOM_DURATION_FACTOR: Final = 1.5
"""Duration of random arrivals, as a multiple of the closed loop's: queues take a while to build up."""

SINGLE_CLIENT_DURATION_FACTOR: Final = 3.0
"""Duration of one client's load, as a multiple of others, before a bound is said to be out of reach."""

MAX_LOADS: Final = 4
"""Limit on measured loads of each kind."""


def keeps_bound(seen: LoadResult, bound_s: float) -> bool:
    """Return whether 99 % of the answers came within the bound and nothing was refused or lost."""
    return seen.answered > 0 and seen.p99_s <= bound_s and not seen.refused and not seen.lost


class BoundSearch:
    """Searches the heaviest load of each kind, a measurement a step.

    Args:
        check: the service, with the settings applied.
        settings: the applied settings.
        peak: images a second at full load.
        images_per_request: images in one request.
        for_s: duration of each load in seconds.
        most_clients: limit on the number of clients.
    """

    def __init__(
        self,
        check: LoadCheck,
        settings: Settings,
        peak: float,
        images_per_request: int,
        for_s: float,
        most_clients: int,
    ) -> None:
        self._check, self._settings, self._peak, self._for_s = check, settings, peak, for_s
        counts = [count for count in CLIENT_COUNTS if count <= most_clients]
        expected = clients_for(check.bound_s, peak / images_per_request, most_clients)
        self.clients = HeaviestLoad(counts, expected, MAX_LOADS)
        self.shares = HeaviestLoad(PEAK_SHARES, MEAN_SHARE_OF_BOUND, MAX_LOADS)
        self.closed_loop: dict[int, LoadResult] = {}
        self.open_loop: dict[float, LoadResult] = {}

    def next(self) -> Step | None:
        """Plan the next measurement; None if enough is known."""
        if (clients := self.clients.next()) is not None:
            act: Callable[[], None] = partial(self._try_clients, clients)
            return Step(f"the bound: {number(clients, 'client')} in a closed loop", self._for_s, act)
        if (share := self.shares.next()) is not None:
            title = f"the bound: {share * self._peak:.3g} images/s at random times"
            return Step(title, RANDOM_DURATION_FACTOR * self._for_s, partial(self._try_share, share))
        return None

    def keeps_bound_of_one(self) -> bool:
        """Return whether one client is answered in time; a negative result is measured again, for longer."""
        if self.clients.heaviest is not None or keeps_bound(self.closed_loop[1], self._check.bound_s):
            return True
        self.closed_loop[1] = self._check.closed_loop(self._settings, 1, SINGLE_CLIENT_DURATION_FACTOR * self._for_s)
        return keeps_bound(self.closed_loop[1], self._check.bound_s)

    @property
    def most_clients(self) -> LoadResult:
        """Results of the closed loop with the most clients within the bound, or of one client."""
        return self.closed_loop[self.clients.heaviest or 1]

    @property
    def most_open(self) -> LoadResult | None:
        """Results of the highest random arrival rate within the bound."""
        return self.open_loop[share] if (share := self.shares.heaviest) is not None else None

    @property
    def too_many_open(self) -> LoadResult | None:
        """Results of the lowest random arrival rate beyond the bound."""
        return self.open_loop[share] if (share := self.shares.too_much) is not None else None

    def _try_clients(self, clients: int) -> None:
        self.closed_loop[clients] = seen = self._check.closed_loop(self._settings, clients, self._for_s)
        self.clients.note(within=keeps_bound(seen, self._check.bound_s))

    def _try_share(self, share: float) -> None:
        for_s = RANDOM_DURATION_FACTOR * self._for_s
        self.open_loop[share] = seen = self._check.open_loop(self._settings, share * self._peak, for_s)
        self.shares.note(within=keeps_bound(seen, self._check.bound_s))
