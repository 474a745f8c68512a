"""Load for a service from clients with persistent connections: in a closed loop, or at a rate."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from harness.connection import Connection, ServiceReply, request_of
from harness.percentiles import percentile
from harness.target import Form, Target

_OK: Final = 200
_TOO_MANY: Final = (429, 503)


@dataclass(slots=True)
class Load:
    """Outcomes of the requests of one run.

    Args:
        for_s: duration of the measurement in seconds.
        sent: number of requests that were due in that time; in a closed loop, that were answered.
        took_s: seconds of each predicted request, from its due time.
        others: counts of all other outcomes, by status or end of the connection.
        late_s: longest delay of a request after its due time.
        clients_cores: processor time of the clients, in cores.
    """

    for_s: float
    sent: int = 0
    took_s: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    late_s: float = 0.0
    clients_cores: float = 0.0

    @property
    def per_s(self) -> float:
        """Predicted requests a second."""
        return len(self.took_s) / self.for_s

    def within_per_s(self, bound_s: float) -> float:
        """Predictions a second that took no longer than `bound_s`."""
        return sum(took_s <= bound_s for took_s in self.took_s) / self.for_s

    def quantile_s(self, share: float) -> float:
        """Seconds within which this share of predictions came; infinite if there are none."""
        return percentile(self.took_s, share)

    @property
    def refused(self) -> int:
        """Number of requests refused as too many: with 503 by the service, with 429 by HAProxy."""
        return sum(self.others[str(status)] for status in _TOO_MANY)

    def note(self, reply: ServiceReply, took_s: float) -> None:
        """Count one request."""
        self.sent += 1
        if reply.status == _OK:
            self.took_s.append(took_s)
        else:
            self.others[reply.outcome] += 1


def closed_loop(
    target: Target, forms: Sequence[Form], *, clients: int, warm_up_s: float, for_s: float, patient: bool = True
) -> Load:
    """Run clients that send the next request after each answer, or after the Retry-After of a refusal.

    Clients that are not patient ignore Retry-After, and send the next request at once.
    """
    requests = [request_of(target, form) for form in forms]
    return _run(_closed_loop(target, requests, clients, warm_up_s, for_s, patient=patient))


def open_loop(
    target: Target, forms: Sequence[Form], *, rate: float, for_s: float, chance: random.Random | None
) -> Load:
    """Send requests at random times (Poisson) or evenly, whether or not earlier ones have been answered.

    The time of an answer counts from the due time of its request: counted from the sending, a stall of the sender
    would hide a stall of the server.
    """
    return at_times(target, forms, arrivals(rate, for_s, chance), for_s)


def at_times(target: Target, forms: Sequence[Form], due_s: Iterable[float], for_s: float) -> Load:
    """Send requests at these seconds after the start, ascending; `for_s` is only the duration of the result."""
    return _run(_at_times(target, [request_of(target, form) for form in forms], due_s, for_s))


def _run(main: Coroutine[Any, Any, Load]) -> Load:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _closed_loop(
    target: Target, requests: Sequence[bytes], clients: int, warm_up_s: float, for_s: float, *, patient: bool
) -> Load:
    load, begin_at = Load(for_s), time.perf_counter() + warm_up_s
    end_at = begin_at + for_s

    async def client(number: int) -> None:
        connection, at = Connection(target), number % len(requests)
        for request in itertools.cycle([*requests[at:], *requests[:at]]):
            if (sent_at := time.perf_counter()) >= end_at:
                break
            reply = await connection.ask(request)
            if begin_at <= (now := time.perf_counter()) < end_at:
                load.note(reply, now - sent_at)
            if patient and reply.retry_after_s:
                await asyncio.sleep(reply.retry_after_s)
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
        await asyncio.sleep(warm_up_s)
        used_s = time.process_time()
        await asyncio.sleep(end_at - time.perf_counter())
        load.clients_cores = (time.process_time() - used_s) / for_s
    return load


async def _at_times(target: Target, requests: Sequence[bytes], due_s: Iterable[float], for_s: float) -> Load:
    load, idle, began_at = Load(for_s), list[Connection](), time.perf_counter()
    used_s = time.process_time()

    async def client(request: bytes, due_at: float) -> None:
        load.late_s = max(load.late_s, time.perf_counter() - due_at)
        connection = idle.pop() if idle else Connection(target)
        reply = await connection.ask(request)
        load.note(reply, time.perf_counter() - due_at)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for after_s, request in zip(due_s, itertools.cycle(requests), strict=False):
            due_at = began_at + after_s
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            group.create_task(client(request, due_at))
    load.clients_cores = (time.process_time() - used_s) / (time.perf_counter() - began_at)
    for connection in idle:
        connection.close()
    return load


def arrivals(rate: float, for_s: float, chance: random.Random | None) -> Iterator[float]:
    """Yield the seconds at which requests are due: at random (Poisson), or evenly without `chance`."""
    at_s = 0.0
    while (at_s := at_s + (chance.expovariate(rate) if chance else 1 / rate)) < for_s:
        yield at_s
