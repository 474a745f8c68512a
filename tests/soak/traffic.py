"""The pace of a soak: open-loop callers, who do not wait for those before them."""

import asyncio
import random
import time
from typing import Final

from tests.soak.callers import PATIENCE_S, SHARES, Callers, Record
from tests.soak.judgement import AnswerKind, Truth
from tests.soak.samples import Corpus

MOST_IN_FLIGHT: Final = 800
"""Limit on callers at once; more would measure the callers' own process. Those held back are counted."""

LOAD: Final = 0.5
BURST_LOAD: Final = 3.0
"""Load in normal traffic and in a burst, in requests a second, as a share of the capacity."""

BURST_EVERY_S: Final = 60.0
BURST_AT_S: Final = 30.0  # within each minute
BURST_S: Final = 5.0
AFTERMATH_S: Final = 20.0
"""Time after a burst in which its backlog is worked off."""


class Traffic:
    """Callers of all kinds, and their outcomes in `records`.

    Args:
        url: address of the service.
        corpus: files that they send.
        truth: right answers to these files.
        seed: of the callers' random choices and times.
    """

    def __init__(self, url: str, corpus: Corpus, truth: Truth, seed: int) -> None:
        self.records: list[Record] = []
        self.held_back = 0
        self._began = time.monotonic()
        self._rng = random.Random(seed)
        self._callers = Callers(url, corpus, truth, random.Random(seed + 1), self.now_s)
        self._running: set[asyncio.Task[None]] = set()

    def start_clock(self) -> None:
        """Start the clock of `now_s`."""
        self._began = time.monotonic()

    def now_s(self) -> float:
        """Return the seconds since the traffic began."""
        return time.monotonic() - self._began

    @property
    def in_flight(self) -> int:
        """Return the number of callers that wait."""
        return len(self._running)

    async def measure_capacity(self, callers: int, for_s: float) -> float:
        """Return the requests a second of patient callers in a closed loop."""
        began, done = time.monotonic(), 0

        async def call_again_and_again() -> None:
            nonlocal done
            while time.monotonic() - began < for_s:
                await self._callers.call("patient")
                done += 1

        await asyncio.gather(*(call_again_and_again() for _ in range(callers)))
        return done / (time.monotonic() - began)

    async def run(self, capacity: float, stop: asyncio.Event) -> None:
        """Send callers until the event, then wait for all of them.

        Args:
            capacity: requests a second.
            stop: event that ends the traffic.
        """
        due_s = 0.0
        while not stop.is_set():
            load = BURST_LOAD if is_burst(self.now_s()) else LOAD
            # A delay above a second (this process had no core) is not made up for: it would be a burst of its own.
            due_s = max(due_s, self.now_s() - 1.0) + self._rng.expovariate(capacity * load)
            await asyncio.sleep(max(0.0, due_s - self.now_s()))
            self._send_one()
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE_S + 10.0)
        await self._callers.close()

    def _send_one(self) -> None:
        if self.in_flight >= MOST_IN_FLIGHT:
            self.held_back += 1
            return
        (caller,) = self._rng.choices(list(SHARES), list(SHARES.values()))
        task = asyncio.create_task(self._note(caller))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _note(self, caller: str) -> None:
        self.records.append(await self._callers.call(caller))


def is_burst(at_s: float) -> bool:
    """Return whether callers come at `BURST_LOAD`."""
    return 0 <= (at_s - BURST_AT_S) % BURST_EVERY_S < BURST_S


def is_plain(record: Record) -> bool:
    """Return whether a latency counts: a single image, answered at once, outside a burst and its aftermath."""
    if (record.caller, record.shape, len(record.attempts)) != ("patient", "raw", 1):
        return False
    since_burst_s = (record.attempts[0].started_s - BURST_AT_S) % BURST_EVERY_S
    return record.attempts[0].verdict.kind == AnswerKind.RIGHT and since_burst_s > BURST_S + AFTERMATH_S
