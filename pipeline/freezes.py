"""Notices that this process was frozen, as when its container or the machine under it is paused.

Clocks run on meanwhile. Without this, a worker that had 50 microseconds left until its next image would seem to have
hung for all that time.
"""

import time

from pipeline.bounds import FROZEN_FROM_S


class Freezes:
    """Notices freezes: times in which `look` was not called, although a thread of this process calls it all the time.

    Attributes:
        resumed_at: end of the last freeze, by `time.monotonic`; 0 before the first. Time that somebody was given to do
            something counts from then.
    """

    def __init__(self) -> None:
        self._looked_at, self.resumed_at = time.monotonic(), 0.0

    def look(self) -> None:
        """Notice a freeze that has just ended. To be called several times a second, from any threads."""
        now = time.monotonic()
        if now - self._looked_at > FROZEN_FROM_S:
            self.resumed_at = now
        self._looked_at = now
