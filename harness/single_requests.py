"""Requests on a new connection each: none fails because a server has just closed an idle connection.

For tests of broken services: every outcome is kept, including missing answers.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.connection import Connection, ServiceReply, request_of
from harness.target import Form, Target

LOST_AFTER_S: Final = 30.0
"""Seconds after which a request without an answer counts as lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to one request, and its duration.

    Args:
        reply: reply of the service, or the end of the connection.
        due_at: due time of the request, by `time.perf_counter`.
        late_s: seconds between the due time and the sending.
        took_s: seconds from `due_at` to the end of the reply.
    """

    reply: ServiceReply
    due_at: float
    late_s: float
    took_s: float

    @property
    def good(self) -> bool:
        """True if the reply is a prediction."""
        return self.reply.status == 200


async def ask(target: Target, form: Form, due_at: float | None = None) -> Answer:
    """Send one request and wait for its reply."""
    sent_at = time.perf_counter()
    due_at = sent_at if due_at is None else due_at
    connection = Connection(target, LOST_AFTER_S)
    try:
        reply = await connection.ask(request_of(target, form))
    finally:
        connection.close()
    return Answer(reply, due_at, sent_at - due_at, time.perf_counter() - due_at)


async def at_once(target: Target, forms: Sequence[Form]) -> list[Answer]:
    """Send all forms at once, each by its own client; return the answers in the order of the forms."""
    return await asyncio.gather(*(ask(target, form) for form in forms))


async def at_rate(
    target: Target, forms: Sequence[Form], *, rate: float, for_s: float, enough: asyncio.Event | None = None
) -> list[Answer]:
    """Send requests `1 / rate` seconds apart, whether or not earlier ones have been answered.

    The time of an answer counts from the due time of its request: counted from the sending, a stall of the sender
    would hide a stall of the server.

    Args:
        target: the service.
        forms: request bodies, sent in turn.
        rate: requests a second.
        for_s: seconds in which requests are due.
        enough: ends the load early when set.
    """
    began_at, requests = time.perf_counter(), list[asyncio.Task[Answer]]()
    for number, form in zip(range(int(rate * for_s)), itertools.cycle(forms), strict=False):
        due_at = began_at + number / rate
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        if enough is not None and enough.is_set():
            break
        requests.append(asyncio.create_task(ask(target, form, due_at)))
    return await asyncio.gather(*requests)


async def leave(target: Target, form: Form, *, after_s: float) -> None:
    """Send a whole request, wait `after_s` and disconnect."""
    _, writer = await asyncio.open_connection(target.host, target.port)
    writer.transport.set_write_buffer_limits(0)  # `drain` returns when the kernel has everything
    try:
        writer.write(request_of(target, form))
        await writer.drain()
        await asyncio.sleep(after_s)
    except OSError:
        return  # refused already
    finally:
        writer.close()
