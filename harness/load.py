"""Clients that keep their connections and do as little as can be: they share the machine with what they measure.

Requests are bytes made beforehand, and of an answer its status, its length and Retry-After are read; a tenth of what
aiohttp takes. `clients.py` is for where connections break: there every request has one of its own.
"""

import asyncio
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from harness.target import Form, Target

_OK: Final = 200
_BUSY: Final = 503
_PATIENCE_S: Final = 60.0
"""A request that has no answer by then is lost."""


@dataclass(slots=True)
class Load:
    """Outcomes of the requests of one run.

    Args:
        for_s: how long it was measured.
        sent: requests that were due in that time, or in a closed loop answered.
        took_s: of each that was predicted, from when it was due.
        others: all else: how often which status, or how the connection ended.
        late_s: the most that a request was sent after it was due.
        clients_cores: processor that the clients took.
    """

    for_s: float
    sent: int = 0
    took_s: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    late_s: float = 0.0
    clients_cores: float = 0.0

    @property
    def per_s(self) -> float:
        """Predictions' requests a second."""
        return len(self.took_s) / self.for_s

    def within_per_s(self, bound_s: float) -> float:
        """Those of them that took no longer than `bound_s`."""
        return sum(took_s <= bound_s for took_s in self.took_s) / self.for_s

    def quantile_s(self, share: float) -> float:
        """Seconds that so large a share of the predictions took at most; infinite where there are none."""
        ordered = sorted(self.took_s)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.inf

    @property
    def refused(self) -> int:
        """Requests that were told to come again later."""
        return self.others[str(_BUSY)]

    def note(self, reply: "Reply", took_s: float) -> None:
        """Counts one request."""
        self.sent += 1
        if reply.status == _OK:
            self.took_s.append(took_s)
        else:
            self.others[str(reply.status or reply.ended)] += 1


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request; status 0 where the connection ended, and how."""

    status: int
    retry_after_s: float = 0.0
    ended: str = ""


def closed_loop(
    target: Target, forms: Sequence[Form], *, clients: int, warm_up_s: float, for_s: float, patient: bool = True
) -> Load:
    """Clients that send the next request when they have an answer, or when they were told to come again.

    Those that are not patient send it at once, whatever they were told.
    """
    requests = [_request(target, form) for form in forms]
    return _run(_closed_loop(target, requests, clients, warm_up_s, for_s, patient=patient))


def open_loop(
    target: Target, forms: Sequence[Form], *, rate: float, for_s: float, chance: random.Random | None
) -> Load:
    """Clients that come by chance (Poisson), or else evenly, whether or not the earlier ones have been answered.

    An answer's time counts from when its request was due: were it counted from when it was sent, a stall of the sender
    would hide that of the server.
    """
    return _run(_open_loop(target, [_request(target, form) for form in forms], rate, for_s, chance))


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


async def _open_loop(
    target: Target, requests: Sequence[bytes], rate: float, for_s: float, chance: random.Random | None
) -> Load:
    load, idle, began_at = Load(for_s), list[Connection](), time.perf_counter()
    used_s = time.process_time()

    async def client(request: bytes, due_at: float) -> None:
        load.late_s = max(load.late_s, time.perf_counter() - due_at)
        connection = idle.pop() if idle else Connection(target)
        reply = await connection.ask(request)
        load.note(reply, time.perf_counter() - due_at)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for due_s, request in zip(arrivals(rate, for_s, chance), itertools.cycle(requests), strict=False):
            due_at = began_at + due_s
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            group.create_task(client(request, due_at))
    load.clients_cores = (time.process_time() - used_s) / (time.perf_counter() - began_at)
    for connection in idle:
        connection.close()
    return load


def arrivals(rate: float, for_s: float, chance: random.Random | None) -> Iterator[float]:
    """Seconds at which requests are due, by chance (Poisson) or else evenly."""
    at_s = 0.0
    while (at_s := at_s + (chance.expovariate(rate) if chance else 1 / rate)) < for_s:
        yield at_s


class Connection(asyncio.Protocol):
    """One connection, opened when it is needed: a request at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._headers: dict[bytes, bytes] | None = None  # of the answer, once they are there
        self._last: Reply | None = None  # after which the server closes the connection
        self._body_at = 0
        self._reply: asyncio.Future[Reply]

    async def ask(self, request: bytes) -> Reply:
        """Sends one request and waits for its answer."""
        loop = asyncio.get_running_loop()
        self._reply = loop.create_future()
        timer = loop.call_later(_PATIENCE_S, self.close)
        try:
            if self._transport is None or self._transport.is_closing():
                self._forget()
                self._transport, _ = await loop.create_connection(lambda: self, self._target.host, self._target.port)
            self._transport.write(request)
            return await self._reply
        except OSError as error:
            return Reply(0, ended=type(error).__name__)
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._received += data
        if self._headers is None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._headers, self._body_at = _headers(bytes(self._received[:end])), end + 4
        if self._headers is not None and self._is_whole(self._headers):
            reply = Reply(int(self._received[9:12]), float(self._headers.get(b"retry-after", 0)))
            if self._headers.get(b"connection", b"").lower() == b"close":  # as HAProxy says when it is replaced
                self._last = reply
                self.close()
            else:
                self._finish(reply)
            self._forget()

    def _is_whole(self, headers: Mapping[bytes, bytes]) -> bool:
        if (length := headers.get(b"content-length")) is not None:
            return len(self._received) - self._body_at >= int(length)
        return self._received.endswith(b"\r\n0\r\n\r\n")  # in chunks: the last one is empty

    def _forget(self) -> None:
        self._received.clear()
        self._headers = None

    def connection_lost(self, error: Exception | None) -> None:
        """By either side."""
        last, self._last = self._last, None
        self._finish(last or Reply(0, ended=type(error).__name__ if error else "closed"))

    def close(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.close()

    def _finish(self, reply: Reply) -> None:
        if not self._reply.done():
            self._reply.set_result(reply)


def _request(target: Target, form: Form) -> bytes:
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {len(form.body)}\r\n\r\n"
    )
    return head.encode() + form.body


def _headers(head: bytes) -> dict[bytes, bytes]:
    """The header fields by their names in small letters."""
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.lower(): value.strip() for name, _, value in fields}
