"""Refusals that are answered late: a client that comes back at once is slowed down, and costs the less.

Those held back ahead of Serve are no requests of Serve's: its autoscaler does not count them, health checks do not wait
for them, and a replica that stops drains without them; its HTTP server answers them before it ends.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from pipeline.errors import Overloaded

MOST_S: Final = 2.0
"""The longest that a refusal is held back: of 256 clients that come back at once 128 a second, 3 % of two cores."""

_LEAST_S: Final = 0.05
_REFUSALS_PER_S: Final = 100.0
"""Refusals a second that so many clients may cause as come back at once, while there are no more of them than these."""


class Late:
    """Holds refusals back, the longer the more there are. For one event loop.

    Args:
        most: how many may be held back at a time; any more are not held back.

    Attributes:
        waiting: refusals that are held back now.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._most = most

    def delay_s(self, most_s: float) -> float:
        """Seconds that one more refusal should be held back, no more than `most_s`."""
        if self.waiting >= self._most:
            return 0.0
        return min(most_s, MOST_S, max(_LEAST_S, (self.waiting + 1) / _REFUSALS_PER_S))

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
        delay_s = 0.0 if error.at_once else self.delay_s(limit_s / 2)
        if not delay_s:
            return True
        self.waiting += 1
        try:
            async with asyncio.timeout(delay_s):
                if "expect" in Headers(scope=scope):  # to receive would invite a body that nobody wants
                    await asyncio.sleep(delay_s)
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return True
        finally:
            self.waiting -= 1
        return False
