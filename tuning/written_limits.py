"""Limits of the written settings, which refuse none of the measured load, and the check of that."""

import math
from dataclasses import replace
from typing import Final

from tuning.load_check import LoadCheck, LoadResult
from tuning.replica_settings import Settings

QUEUE_WAIT_MARGIN: Final = 2.0
"""Factor on the longest answer seen, so that the same load is not refused when the machine is slower."""

MAX_DOUBLINGS: Final = 4
"""The most times that `max_queue_wait_s` is doubled if requests are refused all the same."""


def needed_wait_s(seen: LoadResult, images_per_request: int) -> float:
    """Compute the least `max_queue_wait_s` that refuses no request of a closed loop.

    A request waits at most for the requests of all other clients, which the service answers within clients / rate.

    Args:
        seen: of the closed loop.
        images_per_request: images a request.
    """
    behind_all_s = seen.clients * images_per_request / seen.answered if seen.answered else 0.0
    longest_s = seen.longest_s if math.isfinite(seen.longest_s) else 0.0
    return _rounded_up(QUEUE_WAIT_MARGIN * max(behind_all_s, longest_s))


def with_limits(
    chosen: Settings,
    present: Settings,
    seen: LoadResult,
    *,
    images_per_request: int,
    asked_s: float | None,
) -> Settings:
    """Give the chosen settings limits that refuse no request of the measured closed loop.

    Args:
        chosen: settings; their limits do not count.
        present: the configuration's own settings, whose limits stay where they are wide enough.
        seen: the closed loop.
        images_per_request: images a request.
        asked_s: the bound, if the user has given one: requests that would wait longer are refused.
    """
    needed_s = needed_wait_s(seen, images_per_request)
    wait_s = max(present.max_queue_wait_s, needed_s)
    if asked_s is not None:
        wait_s = max(min(present.max_queue_wait_s, asked_s), needed_s)
    return replace(
        chosen,
        max_queue_wait_s=wait_s,
        max_ongoing_requests=max(chosen.max_ongoing_requests, 2 * seen.clients),
    )


def proved(check: LoadCheck, settings: Settings, clients: int, for_s: float) -> tuple[Settings, LoadResult]:
    """Run the closed loop against the settings; if any request is refused, again with a longer `max_queue_wait_s`.

    Returns:
        The settings that refused nothing, or the last that were tried, and what came back.
    """
    for _ in range(MAX_DOUBLINGS):
        check.apply(settings)
        seen = check.closed_loop(settings, clients, for_s)
        if not seen.refused:
            break
        settings = replace(settings, max_queue_wait_s=_rounded_up(2 * settings.max_queue_wait_s))
    return settings, replace(seen, settings=settings)


def _rounded_up(seconds: float) -> float:
    """Round up to two significant digits."""
    if seconds <= 0:
        return 0.001
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return max(0.001, round(math.ceil(seconds / step - 1e-9) * step, 6))
