"""ASGI middleware in front of Ray Serve: what refuses a request here spares Serve its own work on it.

`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` in serve.env names `middlewares`; Serve calls it in each process that
listens for HTTP. Where that variable is not set, the application refuses by itself, at a higher cost.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

ADMITTED: Final = "darkroom.admitted"
"""Key in the scope of a request that has passed `Front`, so that nobody asks the same again."""

Guard = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""Answers a request by that application, or refuses it."""


class Front:
    """ASGI middleware that has the replica of this process decide before Serve sees a request.

    Args:
        app: Serve.

    Attributes:
        guard: the replica's; None where no replica runs in this process, as in Serve's own proxy.
    """

    guard: Guard | None = None

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if Front.guard is None or scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            scope[ADMITTED] = True
            await Front.guard(self._app, scope, receive, send)


def middlewares() -> list[Middleware]:
    """The middlewares, as Serve wants them."""
    return [Middleware(Front)]
