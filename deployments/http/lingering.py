"""Reads bodies in front of Serve: only as far as the application asks, and to the end after a refusal.

Serve counts a request from its first line to its answer, and by itself reads the body ahead of the application.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http.haproxy_rules import CLOSE_HEADER

LINGER_S: Final = 10.0
"""Longest time that a refusal waits for the rest of a body."""

SENDING_GRACE_S: Final = 1.0
MIN_BYTES_PER_S: Final = 16_384
"""Rate below which a refusal waits only for `SENDING_GRACE_S`."""

MAX_LINGERING: Final = 64
"""Limit on refusals that wait at a time in a process; any more are sent at once."""

_CLOSE_HEADER: Final = (CLOSE_HEADER.encode(), b"1")

_ASK_KEY: Final = "darkroom.ask"
"""Key in the ASGI scope of the function that the application calls before it receives a piece."""


class BodyReading:
    """Controls the reading of one body.

    Args:
        scope: ASGI scope of the request.
        receive: ASGI `receive` of the server.
        on_demand: whether the application asks for each piece, as `BodyOnDemand` does.
    """

    def __init__(self, scope: Scope, receive: Receive, *, on_demand: bool) -> None:
        self._receive = receive
        self.awaits_invitation = (b"expect", b"100-continue") in ((n, v.lower()) for n, v in scope["headers"])
        self.has_ended = False
        # One piece is read ahead of the application, unless the client waits for 100 Continue: small bodies are then
        # read at once, and the server notices a disconnect.
        self._asked = asyncio.Semaphore(0 if self.awaits_invitation else 1) if on_demand else None

    def ask(self) -> None:
        """Allow one more piece to be read."""
        if self._asked:
            self._asked.release()

    async def receive(self) -> Message:
        """Return the next message once the application has asked for it; the ASGI `receive` for the application."""
        if self._asked and not self.has_ended:
            await self._asked.acquire()
        return await self.read()

    async def read(self) -> Message:
        """Return the next message. A client that waits for 100 Continue gets it."""
        self.awaits_invitation = False
        message = await self._receive()
        self.has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class Lingering:
    """ASGI middleware around Serve: a refusal waits for the rest of the body, so that the client can read the refusal.

    If the connection closes while a client still sends, its sending fails, and many clients then never read the answer
    (RFC 9112, section 9.6). The refusal waits after Serve has finished the request, with limits on time, rate and
    number.

    Args:
        app: Serve.
        on_demand: whether the application runs in this process, on this event loop.
    """

    def __init__(self, app: ASGIApp, *, on_demand: bool) -> None:
        self._app, self._on_demand = app, on_demand
        self._lingering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = BodyReading(scope, receive, on_demand=self._on_demand)
        if self._on_demand:
            scope[_ASK_KEY] = body.ask
        held: list[Message] = []

        async def send_or_hold(message: Message) -> None:
            if body.has_ended and not held:
                await send(message)
            else:
                held.append(message)

        try:
            await self._app(scope, body.receive, send_or_hold)
        finally:
            if held:
                await self._send_held(held, body, send)

    async def _send_held(self, held: list[Message], body: BodyReading, send: Send) -> None:
        if not body.awaits_invitation and self._lingering < MAX_LINGERING:
            self._lingering += 1
            try:
                await _drain(body)
            finally:
                self._lingering -= 1
        if not body.has_ended and held[0]["type"] == "http.response.start":
            # The server would go on reading for as long as the client sends.
            held[0]["headers"] = [*held[0].get("headers", ()), (b"connection", b"close"), _CLOSE_HEADER]
        for message in held:
            await send(message)


async def _drain(body: BodyReading) -> None:
    began_at, size = asyncio.get_running_loop().time(), 0
    with suppress(TimeoutError):
        while not body.has_ended:
            patience_s = min(LINGER_S, SENDING_GRACE_S + size / MIN_BYTES_PER_S)
            async with asyncio.timeout_at(began_at + patience_s):
                size += len((await body.read()).get("body", b""))


class BodyOnDemand:
    """ASGI middleware around the application: asks for each piece of the body before receiving it.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        ask: Callable[[], None] | None = scope.get(_ASK_KEY)

        async def ask_and_receive() -> Message:
            assert ask is not None  # noqa: S101  for mypy
            ask()
            return await receive()

        await self._app(scope, ask_and_receive if ask else receive, send)
