"""Bounds how slowly a body may arrive."""

import asyncio
from typing import Final

from deployments.request_errors import BodyTimeout
from deployments.service_config import LiveConfig

GRACE_S: Final = 5.0
"""Seconds in which a body need not have arrived at any rate: connections of telephones pause. Kestrel has the same."""


class BodyDeadline:
    """Moves the end of a timeout while a body arrives, up to `body_timeout_s`.

    Args:
        timeout: ends the reading of the body; entered already.
        live: the time for the whole body, and the least rate.
    """

    def __init__(self, timeout: asyncio.Timeout, live: LiveConfig) -> None:
        self._timeout, self._live = timeout, live
        self._began_at = asyncio.get_running_loop().time()
        self._bytes = 0
        self._allowed_s = 0.0
        self.note(0)

    def note(self, size: int) -> None:
        """Notes that so many bytes have arrived."""
        self._bytes += size
        if self._allowed_s < self._live.body_timeout_s:
            earned_s = GRACE_S + self._bytes / self._live.min_body_bytes_per_s
            self._allowed_s = min(self._live.body_timeout_s, earned_s)
            self._timeout.reschedule(self._began_at + self._allowed_s)

    def end(self) -> None:
        """Ends the reading at once."""
        if not self._timeout.expired():
            self._timeout.reschedule(0.0)

    def too_slow(self) -> BodyTimeout:
        """The refusal of a body that has not arrived in time; names values and limits."""
        live = self._live
        if self._allowed_s >= live.body_timeout_s:
            return BodyTimeout(f"the body has not arrived within {live.body_timeout_s:g} s (body_timeout_s)")
        return BodyTimeout(
            f"{self._bytes} bytes of the body have arrived within {self._allowed_s:.1f} s; after {GRACE_S:g} s it must "
            f"come at {live.min_body_bytes_per_s} bytes a second or faster (min_body_bytes_per_s)"
        )
