"""Requests to stop: SIGINT, SIGTERM and SIGHUP."""

import signal
from types import FrameType


class StopRequests:
    """Counts SIGINT, SIGTERM and SIGHUP: the first one ends the run, the next one ends the wait for a clean stop."""

    def __init__(self) -> None:
        self.count = 0
        # A handler even if a shell has set SIGINT to be ignored: `serve run` would inherit that, and never stop.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._add)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` sets it
            signal.signal(signal.SIGHUP, self._add)

    def _add(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
