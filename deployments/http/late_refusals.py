"""Refusals that are answered late: a client that comes back at once is slowed down, and costs the less.

Those held back ahead of Serve are no requests of Serve's: its autoscaler does not count them, health checks do not wait
for them, and a replica that stops drains without them; its HTTP server answers them before it ends.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from deployments.request_errors import Overloaded

MAX_DELAY_S: Final = 2.0
"""The longest that a refusal is held back."""

_MIN_DELAY_S: Final = 0.05
_MAX_CORE_SHARE: Final = 0.05
"""Share of one core that refusals may take where clients come back at once; more where `MAX_DELAY_S` is too short."""

_REFUSAL_COST_S: Final = 0.0005
_DROPPED_BYTE_COST_S: Final = 1e-9
"""Seconds of a core for a refusal, with the balancer's part, and for each byte of a body that is dropped."""

_MAX_LENGTH_DIGITS: Final = 16


def body_bytes(headers: Headers) -> int:
    """Length that a request announces for its body; 0 where it announces none."""
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < _MAX_LENGTH_DIGITS else 0


class LateRefusals:
    """Holds refusals back, the longer the more there are, and the larger their bodies. For one event loop.

    Args:
        most: how many may be held back at a time; any more are not held back.

    Attributes:
        waiting: refusals that are held back now.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._cost_s = 0.0  # of those that wait
        self._most = most

    async def hold(self, error: Overloaded, limit_s: float, scope: Scope, receive: Receive) -> bool:
        """Holds a refusal back, and reads and drops what comes of the body meanwhile.

        Args:
            error: why it is refused.
            limit_s: the time that the request has, of which half goes by at most.
            scope: of the request.
            receive: its body.

        Returns:
            Whether the client is still there.
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
                if "expect" in headers:  # to receive would invite a body that nobody wants
                    await asyncio.sleep(MAX_DELAY_S)
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return True
        finally:
            self.waiting -= 1
            self._cost_s = self._cost_s - cost_s if self.waiting else 0.0  # no rounding adds up
        return False
