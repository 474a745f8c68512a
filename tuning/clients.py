"""The number of clients of a closed loop."""

from typing import Final

MAX_CLIENTS: Final = 256
"""Limit on the number of clients."""

MEAN_SHARE_OF_BOUND: Final = 0.6
"""Share of the bound that requests should take on average, so that nearly all of them stay below it."""

MIN_BOUND_S: Final = 0.5
BOUND_PER_ALONE: Final = 10
"""Factor from the time of a single request to the default bound, which is at least 0.5 s."""

CLIENT_COUNTS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, MAX_CLIENTS)
"""Numbers of clients that are tried to find out how many a bound allows."""


def usual_bound_s(alone_s: float) -> float:
    """Compute the default bound from the time of a single request."""
    return max(MIN_BOUND_S, BOUND_PER_ALONE * alone_s)


def clients_for(bound_s: float, requests_per_s: float, most: int = MAX_CLIENTS) -> int:
    """Compute the clients that keep a service as busy as the bound allows, by Little's law."""
    return max(1, min(most, int(MEAN_SHARE_OF_BOUND * bound_s * requests_per_s)))
