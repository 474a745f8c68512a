"""The faults of a soak, in seeded order: killed workers and replicas, stopped workers, floods, reconfigurations."""

import asyncio
import copy
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx
import psutil

from deployments.live_config import LiveConfig
from harness.costly_images import COSTLY_FILES
from harness.load import closed_loop
from harness.local_service import LocalService, ServiceFailed
from harness.roles import REPLICA, WORKER, with_role
from harness.target import image_body

KILL_WORKER: Final = "kill a worker"
STOP_WORKER: Final = "stop a worker"
KILL_REPLICA: Final = "kill the replica"
FLOOD: Final = "flood"

PAUSE_S: Final = (6.0, 16.0)
KILL_REPLICA_EVERY_S: Final = 600.0
REPLACED_WITHIN_S: Final = 30.0  # a worker
WHOLE_WITHIN_S: Final = 120.0  # a service whose replica was killed
APPLIED_WITHIN_S: Final = 60.0
FLOOD_S: Final = 5.0
FLOOD_CONNECTIONS: Final = 8

RECONFIGURATIONS: Final[tuple[Mapping[str, Any], ...]] = (
    {"top_k": 3},
    {"max_batch_size": 8},
    {"max_request_bytes": 24 << 20, "max_bytes_in_flight": 24 << 20},  # so that a part of a burst is refused
    {"batch_window_s": 0.005},
    {},
)
_REFUSALS: Final = ("413", "503")
"""Statuses of an image that costs too much work, and of one that would wait too long."""

BAD_RECONFIGURATION: Final[Mapping[str, Any]] = {"max_batch_size": 4096}


@dataclass(frozen=True, slots=True)
class Event:
    """One fault; times in seconds since the traffic began."""

    at_s: float
    until_s: float  # when the service had recovered
    kind: str
    detail: str
    complaint: str = ""  # the expected effect that was missing


class Injections:
    """Causes faults in a service, and records them in `events`.

    Args:
        service: the service.
        clock: seconds since the traffic began.
        for_s: duration of the traffic.
        seed: determines the faults and their times.
        stops: whether workers are stopped too, not only killed.
        say: called with one line for each event.
    """

    def __init__(
        self,
        service: LocalService,
        clock: Callable[[], float],
        for_s: float,
        *,
        seed: int,
        stops: bool,
        say: Callable[[str], None],
    ) -> None:
        self.events: list[Event] = []
        self._service, self._clock, self._say = service, clock, say
        self._rng = random.Random(seed)
        self._actions: dict[str, tuple[float, Callable[[], Awaitable[Event]]]] = {
            KILL_WORKER: (0.5, self._kill_worker),
            "reconfigure": (0.3, self._reconfigure),
            FLOOD: (0.3, self._flood),
            **({STOP_WORKER: (0.2, self._stop_worker)} if stops else {}),
        }
        self._replica_due_s = min(KILL_REPLICA_EVERY_S, for_s) / 2
        self._turn = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Cause one fault after the other until the event; wait for the end of one that has begun."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._rng.uniform(*PAUSE_S))
                return
            if self._clock() >= self._replica_due_s:
                self._replica_due_s += KILL_REPLICA_EVERY_S
                action = self._kill_replica
            else:
                shares, actions = zip(*self._actions.values(), strict=True)
                (action,) = self._rng.choices(actions, shares)
            event = await action()
            self.events.append(event)
            complaint = f" COMPLAINT: {event.complaint}" if event.complaint else ""
            self._say(f"{event.at_s:7.1f} s  {event.kind}: {event.detail}{complaint}")

    @property
    def outages(self) -> list[tuple[float, float]]:
        """Return the times at which a replica was killed and at which the service was complete again."""
        return [(event.at_s, event.until_s) for event in self.events if event.kind == KILL_REPLICA]

    # ---- one kind each ----------------------------------------------------------------------------------------------

    async def _kill_worker(self) -> Event:
        return await self._end_worker(KILL_WORKER, signal.SIGKILL)

    async def _stop_worker(self) -> Event:
        """Stop any worker, which must be ended whether it decodes or not."""
        return await self._end_worker(STOP_WORKER, signal.SIGSTOP)

    async def _end_worker(self, kind: str, number: signal.Signals) -> Event:
        at_s = self._clock()
        try:
            worker = self._rng.choice(await asyncio.to_thread(self._of, WORKER))
            parent = worker.parent() or worker  # the forkserver of its replica
            count = len(parent.children())
            worker.send_signal(number)
        except (IndexError, psutil.NoSuchProcess):
            return Event(at_s, at_s, kind, "there was none at the moment")

        async def replaced() -> bool:
            siblings = _children(parent)
            return worker not in siblings and len(siblings) >= count

        is_replaced = await _until(replaced, REPLACED_WITHIN_S)
        detail = f"{worker.pid}, another after {self._clock() - at_s:.1f} s"
        if not is_replaced:
            with suppress(psutil.NoSuchProcess):
                worker.kill()  # so that the run can go on
        return Event(at_s, self._clock(), kind, detail, "" if is_replaced else f"not within {REPLACED_WITHIN_S:.0f} s")

    async def _flood(self) -> Event:
        """Send files of one kind that cost the most for their size; each must be answered or refused."""
        at_s, name = self._clock(), self._rng.choice(sorted(COSTLY_FILES))
        form = await asyncio.to_thread(lambda: image_body(COSTLY_FILES[name]()))
        ask = partial(closed_loop, self._service.target, [form], clients=FLOOD_CONNECTIONS, patient=False)
        load = await asyncio.to_thread(ask, warm_up_s=0.0, for_s=FLOOD_S)
        odd = {got: count for got, count in load.others.items() if got not in _REFUSALS}
        detail = f"{name}: {load.sent} sent, {len(load.took_s)} answered, {load.refused} to come again"
        return Event(at_s, self._clock(), FLOOD, detail, f"others got {odd}" if odd else "")

    async def _kill_replica(self) -> Event:
        at_s = self._clock()
        try:
            replica = self._rng.choice(await asyncio.to_thread(self._of, REPLICA))
            family = replica.children(recursive=True)
            replica.kill()
        except (IndexError, psutil.NoSuchProcess):
            return Event(at_s, at_s, KILL_REPLICA, "there was none", "no replica was running")

        async def whole() -> bool:
            now = await asyncio.to_thread(self._of, REPLICA)
            return bool(now) and replica not in now and await self._info() is not None

        is_whole = await _until(whole, WHOLE_WITHIN_S)
        detail = f"{replica.pid}, whole after {self._clock() - at_s:.1f} s"
        complaints = [] if is_whole else [f"not within {WHOLE_WITHIN_S:.0f} s"]
        if orphans := [process.pid for process in family if process.is_running()]:
            complaints.append(f"its children {orphans} live on")
        # Two seconds longer: earlier requests may be answered after it.
        return Event(at_s, self._clock() + 2.0, KILL_REPLICA, detail, "; ".join(complaints))

    async def _reconfigure(self) -> Event:
        """Apply the next of `RECONFIGURATIONS`; before each round a bad one, which must change nothing."""
        at_s, turn = self._clock(), self._turn % len(RECONFIGURATIONS)
        self._turn += 1
        complaints = []
        if not turn:
            complaints += await self._deploy(BAD_RECONFIGURATION, lambda info, _: bool(info["refused_user_config"]))
        changes = RECONFIGURATIONS[turn]
        complaints += await self._deploy(changes, _is_in_force)
        detail = f"{'a bad one, then ' if not turn else ''}{dict(changes) or 'as it was'}"
        return Event(at_s, self._clock(), "reconfigure", detail, "; ".join(complaints))

    async def _deploy(
        self, changes: Mapping[str, Any], is_applied: Callable[[dict[str, Any], dict[str, Any]], bool]
    ) -> list[str]:
        wanted = {**self._service.user_config, **changes}
        try:
            await asyncio.to_thread(self._service.deploy, self._with(wanted))
        except ServiceFailed as error:
            return [str(error)]

        async def applied() -> bool:
            info = await self._info()
            return info is not None and is_applied(info, wanted)

        return [] if await _until(applied, APPLIED_WITHIN_S) else [f"no effect within {APPLIED_WITHIN_S:.0f} s"]

    def _with(self, user_config: dict[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy(self._service.document)
        document["applications"][0]["deployments"][0]["user_config"] = user_config
        return document

    # ---- what is there ----------------------------------------------------------------------------------------------

    def _of(self, role: str) -> list[psutil.Process]:
        return with_role(self._service.run, role)

    async def _info(self) -> dict[str, Any] | None:
        try:
            return await asyncio.to_thread(self._service.info)
        except httpx.HTTPError:
            return None


async def _until(happened: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not await happened():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


def _children(parent: psutil.Process) -> list[psutil.Process]:
    """Return the children of a process, or none if it has ended, as nothing is to be replaced then."""
    try:
        return parent.children()
    except psutil.NoSuchProcess:
        return []


def _is_in_force(info: Mapping[str, Any], user_config: Mapping[str, Any]) -> bool:
    return bool(info["user_config"] == LiveConfig.model_validate(user_config).model_dump())
