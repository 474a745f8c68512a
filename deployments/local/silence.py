"""Time since the last answer of a process or an application."""

import time


class Silence:
    """Time since the last answer."""

    def __init__(self) -> None:
        self._answered_at: float | None = None

    def note(self, answered: bool) -> float:
        """Note an answer or a missing one; return the seconds since the last answer, 0 before the first."""
        now = time.monotonic()
        if answered:
            self._answered_at = now
        return 0.0 if self._answered_at is None else now - self._answered_at
