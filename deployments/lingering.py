"""A refusal waits for the rest of the body, so that a client that is still sending it gets to read the refusal.

A HAProxy that is being replaced closes a client's connection behind its answer, also where the body is still on its
way: the client then fails to send, and finds no answer. HTTP servers call this lingering (RFC 9112, section 9.6).
"""

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S: Final = 10.0
"""The longest that a refusal waits."""

PAUSE_S: Final = 2.0
"""The longest that it waits for the next piece."""


class Lingering:
    """ASGI middleware that reads what is left of a body before the answer starts, within limits of time.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_sending = True

        async def receive_and_note() -> Message:
            nonlocal is_sending
            message = await receive()
            is_sending = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def linger() -> None:
            while is_sending:
                async with asyncio.timeout(PAUSE_S):
                    await receive_and_note()

        async def linger_and_send(message: Message) -> None:
            if is_sending and message["type"] == "http.response.start":
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await linger()
            await send(message)

        await self._app(scope, receive_and_note, linger_and_send)
