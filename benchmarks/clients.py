"""Clients: all at once, one after another, on a clock of their own, and gone before the answer.

Every request has a connection of its own, so that none fails because a server has just closed an idle one.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from harness.target import Form, Target

PATIENCE_S: Final = 30.0
"""A request that has no answer by then is lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got.

    Args:
        status: of the response; None where there was none.
        due_at: when it was to be sent, by `time.perf_counter`.
        late_s: how much later it was sent.
        took_s: from `due_at` to the end of the answer.
        body: of the response, or what became of the connection.
        retry_after_s: what the response says of when to come again; 0 where it says nothing.
    """

    status: int | None
    due_at: float
    late_s: float
    took_s: float
    body: bytes
    retry_after_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it is a prediction."""
        return self.status == 200


def sessions() -> aiohttp.ClientSession:
    """A session without a limit on its connections."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE_S))


async def ask(session: aiohttp.ClientSession, target: Target, form: Form, due_at: float | None = None) -> Answer:
    """Sends one request and waits for its answer."""
    sent_at = time.perf_counter()
    due_at = sent_at if due_at is None else due_at
    status: int | None = None
    retry_after_s = 0.0
    try:
        headers = {"Content-Type": form.content_type}
        async with session.post(target.url, data=form.body, headers=headers) as response:
            body = await response.read()
            status, retry_after_s = response.status, float(response.headers.get("Retry-After", 0))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        body = f"{type(error).__name__}: {error}".encode()
    return Answer(status, due_at, sent_at - due_at, time.perf_counter() - due_at, body, retry_after_s)


async def at_once(target: Target, forms: Sequence[Form]) -> list[Answer]:
    """As many clients as forms; the answers in the order of the forms."""
    async with sessions() as session:
        return await asyncio.gather(*(ask(session, target, form) for form in forms))


async def closed_loop(target: Target, forms: Sequence[Form], *, clients: int, warm_up_s: float, for_s: float) -> float:
    """Clients that send the next request when they have an answer: how many predictions they get a second.

    Who is told to come again later does so.
    """
    begin_at = time.perf_counter() + warm_up_s
    end_at, finished_at = begin_at + for_s, list[float]()

    async def client(number: int) -> None:
        for form in itertools.cycle([*forms[number % len(forms) :], *forms[: number % len(forms)]]):
            if time.perf_counter() >= end_at:
                return
            answer = await ask(session, target, form)
            if answer.good:
                finished_at.append(time.perf_counter())
            await asyncio.sleep(answer.retry_after_s)

    async with sessions() as session:
        await asyncio.gather(*(client(number) for number in range(clients)))
    return sum(begin_at <= at < end_at for at in finished_at) / for_s


async def open_loop(
    target: Target,
    forms: Sequence[Form],
    *,
    rate: float,
    for_s: float,
    enough: asyncio.Event | None = None,
) -> list[Answer]:
    """Clients that come whether or not the earlier ones have been answered, `1 / rate` seconds apart.

    An answer's time counts from when its request was due: were it counted from when it was sent, a stall of the sender
    would hide that of the server.

    Args:
        target: whom they ask.
        forms: what they send in turn.
        rate: requests a second.
        for_s: until when requests are due.
        enough: ends the load earlier.
    """
    began_at, requests = time.perf_counter(), list[asyncio.Task[Answer]]()
    async with sessions() as session:
        for number, form in zip(range(int(rate * for_s)), itertools.cycle(forms), strict=False):
            due_at = began_at + number / rate
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            if enough is not None and enough.is_set():
                break
            requests.append(asyncio.create_task(ask(session, target, form, due_at)))
        return await asyncio.gather(*requests)


async def leave(target: Target, form: Form, *, after_s: float) -> None:
    """A client that sends its whole request, waits a moment and hangs up."""
    _, writer = await asyncio.open_connection(target.host, target.port)
    writer.transport.set_write_buffer_limits(0)  # `drain` returns when the kernel has everything
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {len(form.body)}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + form.body)
        await writer.drain()
        await asyncio.sleep(after_s)
    except OSError:
        return  # refused already: it need not leave
    finally:
        writer.close()
