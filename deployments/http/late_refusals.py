"""Delayed refusals: a client that retries immediately is slowed down, and so costs less.

Refusals delayed ahead of Serve are no requests for Serve: its autoscaler does not count them, health checks do not wait
for them, and a stopping replica does not wait for them to drain; its HTTP server answers them before it ends.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from deployments.request_errors import Overloaded

MAX_DELAY_S: Final = 2.0
"""Longest delay of a refusal."""

_MIN_DELAY_S: Final = 0.05
_MAX_CORE_SHARE: Final = 0.05
"""Share of one core for refusals if clients retry immediately; exceeded only when `MAX_DELAY_S` is too short."""

_REFUSAL_COST_S: Final = 0.0005
_DROPPED_BYTE_COST_S: Final = 1e-9
"""Seconds of a core for a refusal, including the balancer, and for each byte of a dropped body."""

_MAX_LENGTH_DIGITS: Final = 16


def body_bytes(headers: Headers) -> int:
    """Return the announced length of the body; 0 if the request announces none."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < _MAX_LENGTH_DIGITS else 0


class LateRefusals:
    """Delays refusals: the more of them wait, and the larger their bodies, the longer. For one event loop.

    Args:
        most: limit on refusals delayed at a time; any more are sent without a delay.

    Attributes:
        waiting: refusals that are delayed now.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._cost_s = 0.0  # of all waiting refusals
        self._most = most

    async def hold(self, error: Overloaded, limit_s: float, scope: Scope, receive: Receive) -> bool:
        """Delays a refusal; reads and drops the body meanwhile.

        Args:
            error: the reason.
            limit_s: time limit of the request in seconds; the delay takes half of it at most.
            scope: ASGI scope of the request.
            receive: returns the parts of its body.

        Returns:
            True if the client is still connected.
        """
        if error.at_once or self.waiting >= self._most:
            return True
        headers = Headers(scope=scope)
        cost_s = _REFUSAL_COST_S + _DROPPED_BYTE_COST_S * body_bytes(headers)
        self.waiting += 1
        self._cost_s += cost_s
        try:
            async with asyncio.timeout(
                min(limit_s / 2, MAX_DELAY_S, max(_MIN_DELAY_S, self._cost_s / _MAX_CORE_SHARE))
            ):
                if "expect" in headers:  # receiving would ask the client to send its body
                    await asyncio.sleep(MAX_DELAY_S)
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return True
        finally:
            self.waiting -= 1
            self._cost_s = self._cost_s - cost_s if self.waiting else 0.0  # reset, so rounding errors do not add up
        return False
