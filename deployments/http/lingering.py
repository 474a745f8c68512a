"""Reading of bodies outside of Serve's places: no further than the application asks, and after a refusal to the end.

Serve counts a request from its first line to its answer, and reads its body ahead of the application.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http.haproxy import CLOSE_HEADER

LINGER_S: Final = 10.0
"""The longest that a refusal waits for the rest of a body."""

SENDING_GRACE_S: Final = 1.0
MIN_BYTES_PER_S: Final = 16_384
"""A refusal waits no longer than GRACE_S for a client that sends less than this."""

MAX_LINGERING: Final = 64
"""Refusals that wait at a time in a process; any more are sent at once."""

_CLOSE_HEADER: Final = (CLOSE_HEADER.encode(), b"1")

_ASK_KEY: Final = "darkroom.ask"
"""Key of the scope under which the application finds what it calls before it receives."""


class BodyReading:
    """Reading of one body.

    Args:
        scope: of the request.
        receive: of the server.
        on_demand: whether the application says when it wants a piece, as `BodyOnDemand` does.
    """

    def __init__(self, scope: Scope, receive: Receive, *, on_demand: bool) -> None:
        self._receive = receive
        self.awaits_invitation = (b"expect", b"100-continue") in ((n, v.lower()) for n, v in scope["headers"])
        self.has_ended = False
        # One piece ahead of the application, unless a client waits to be invited: small bodies are then read at once,
        # and the server hears of it when the client goes.
        self._asked = asyncio.Semaphore(0 if self.awaits_invitation else 1) if on_demand else None

    def ask(self) -> None:
        """Have a piece more read."""
        if self._asked:
            self._asked.release()

    async def receive(self) -> Message:
        """The next message, once the application has asked for it; ASGI's `receive` for all behind this."""
        if self._asked and not self.has_ended:
            await self._asked.acquire()
        return await self.read()

    async def read(self) -> Message:
        """The next message. A client that waits to be invited is invited."""
        self.awaits_invitation = False
        message = await self._receive()
        self.has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class Lingering:
    """ASGI middleware around Serve: a refusal waits for the rest of its body, so that the client gets to read it.

    A client that is still sending when its connection is closed fails to send, and many then look for no answer (RFC
    9112, section 9.6). It waits when Serve has already let go of the request; within limits of time, rate and number.

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
    """ASGI middleware around the application: says each time when it wants a piece of the body.

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
