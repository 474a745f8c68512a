"""Clients that send the next request when they have an answer, on connections that they keep.

They share the machine with what they measure, so they do as little as can be: requests are bytes made beforehand, and
of an answer only status and length are read. About a tenth of what aiohttp takes for the same.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

from benchmarks.clients import Form, Target

_LEAVE_S: Final = 60.0
"""Who has no answer by then, after the end, is given up."""


@dataclass(slots=True)
class Load:
    """What became of the requests of one run.

    Args:
        for_s: how long it was measured.
        good: predictions' requests that were answered within that time.
        statuses: of all other answers, and of connections that broke.
        took_s: of each good one.
        clients_cores: processor that the clients themselves took.
    """

    for_s: float
    good: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    clients_cores: float = 0.0

    @property
    def per_s(self) -> float:
        """Good answers a second."""
        return self.good / self.for_s


def closed_loop(target: Target, forms: Sequence[Form], *, clients: int, warm_up_s: float, for_s: float) -> Load:
    """Runs so many clients; blocks until they have ended."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(target, [_request(target, form) for form in forms], clients, warm_up_s, for_s))


async def _run(target: Target, requests: Sequence[bytes], clients: int, warm_up_s: float, for_s: float) -> Load:
    load, loop = Load(for_s), asyncio.get_running_loop()
    begin_at = time.perf_counter() + warm_up_s
    run = _Run(load, begin_at, begin_at + for_s)
    started = [
        _Client(run, itertools.cycle([*requests[at:], *requests[:at]]))
        for at in (number % len(requests) for number in range(clients))
    ]
    for client in started:
        await loop.create_connection(lambda client=client: client, target.host, target.port)  # type: ignore[misc]
    await asyncio.sleep(max(0.0, begin_at - time.perf_counter()))
    used_s = time.process_time()
    await asyncio.sleep(max(0.0, run.end_at - time.perf_counter()))
    load.clients_cores = (time.process_time() - used_s) / for_s
    await asyncio.wait([client.over for client in started], timeout=_LEAVE_S)
    for client in started:
        client.leave()
    return load


@dataclass(slots=True)
class _Run:
    load: Load
    begin_at: float
    end_at: float


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run, requests: Iterator[bytes]) -> None:
        self._run, self._requests = run, requests
        self._received, self._wanted = bytearray(), 0  # bytes of the whole answer; 0 until its head is there
        self._sent_at = 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """A part of an answer."""
        self._received += data
        if not self._wanted and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._wanted = end + 4 + _content_length(bytes(self._received[:end]))
        if self._wanted and len(self._received) >= self._wanted:
            self._note(self._received[9:12].decode())
            self._received.clear()
            self._wanted = 0
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """The server has closed it."""
        if not self.over.done():
            self._note(f"closed: {error}")
            self.over.set_result(None)

    def leave(self) -> None:
        """Closes it."""
        if not self.over.done():
            self._run.load.statuses["no answer"] += 1
            self.over.set_result(None)
        self._transport.close()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._sent_at >= self._run.end_at:
            self.over.set_result(None)
            return
        self._transport.write(next(self._requests))

    def _note(self, status: str) -> None:
        now, run = time.perf_counter(), self._run
        if not run.begin_at <= now < run.end_at:
            return
        if status == "200":
            run.load.good += 1
            run.load.took_s.append(now - self._sent_at)
        else:
            run.load.statuses[status] += 1


def _request(target: Target, form: Form) -> bytes:
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {len(form.body)}\r\n\r\n"
    )
    return head.encode() + form.body


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without Content-Length: {head!r}")
