"""Tests of requests on connections of their own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from harness.single_requests import Answer, at_rate, leave
from harness.target import Form, Target
from tests.support.waiting import PATIENCE_S

Respond = Callable[[bytes], Awaitable[bytes | None]]

FORM = Form("text/plain", b"ping")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def _server(reply: Respond) -> AsyncIterator[Target]:
    """Run a server that answers each connection with `reply` to its request, or hangs up where that is None."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(FORM.body))
        if (answer := await reply(head + body)) is not None:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield Target(host, port, "/", lambda image: Form("text/plain", image))


def test_requests_at_a_rate_wait_for_no_answer() -> None:
    """Requests at a rate are sent without waiting: here none is answered before the last has arrived."""
    everybody, waiting = 20, asyncio.Event()
    seen = list[bytes]()

    async def reply(request: bytes) -> bytes:
        seen.append(request)
        if len(seen) == everybody:
            waiting.set()
        await waiting.wait()
        return OK

    async def run() -> None:
        async with _server(reply) as target:
            answers = await at_rate(target, [FORM], rate=100, for_s=everybody / 100)
        assert [answer.reply.status for answer in answers] == [200] * everybody
        due = [answer.due_at - answers[0].due_at for answer in answers]
        assert due == pytest.approx([number / 100 for number in range(everybody)])
        ends = [answer.due_at + answer.took_s for answer in answers]
        assert min(ends) >= answers[-1].due_at

    asyncio.run(run())


def test_a_stall_of_the_clients_hides_no_time_of_the_server() -> None:
    """A request that is sent late is timed from when it was due.

    So a stall of the clients hides no time of the server.
    """

    async def reply(_: bytes) -> bytes:
        time.sleep(0.05)  # noqa: ASYNC251  stops the clients too, they share its event loop
        return OK

    async def run() -> Answer:
        async with _server(reply) as target:
            answers = await at_rate(target, [FORM], rate=100, for_s=0.1)
        return max(answers, key=lambda answer: answer.late_s)

    latest = asyncio.run(run())
    assert 0 < latest.late_s < latest.took_s


def test_refused_is_told_from_broken() -> None:
    async def run() -> list[int]:
        replies = iter([OK, BUSY, None])

        async def reply(_: bytes) -> bytes | None:
            return next(replies)

        async with _server(reply) as target:
            return [answer.reply.status for answer in await at_rate(target, [FORM], rate=20, for_s=0.15)]

    assert asyncio.run(run()) == [200, 503, 0]


def test_requests_end_when_it_is_told() -> None:
    async def run() -> int:
        enough = asyncio.Event()

        async def reply(_: bytes) -> bytes:
            enough.set()
            return OK

        async with _server(reply) as target:
            return len(await at_rate(target, [FORM], rate=100, for_s=3600, enough=enough))

    assert asyncio.run(run()) < 3600


def test_who_leaves_has_sent_everything() -> None:
    """A client that leaves has sent its whole request; hanging up earlier would be another fault."""
    seen = list[bytes]()

    async def run() -> None:
        came = asyncio.Event()

        async def reply(request: bytes) -> None:
            seen.append(request)
            came.set()

        async with _server(reply) as target:
            await leave(target, FORM, after_s=0)
            await asyncio.wait_for(came.wait(), PATIENCE_S)

    asyncio.run(run())
    assert seen[0].endswith(FORM.body)
