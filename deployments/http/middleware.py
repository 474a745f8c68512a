"""ASGI middleware in front of Ray Serve: what refuses a request here spares Serve its own work on it.

`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` in serve.env names `middlewares`; Serve calls it in each process that
listens for HTTP. Where that variable is not set, the application refuses by itself, at a higher cost.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from ray import serve
from ray.serve._private import constants
from ray.serve.exceptions import RayServeException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http.client_headers import ClientHeaders
from deployments.http.half_closed import HalfClosed
from deployments.http.lingering import Lingering
from deployments.http.plain_text import PlainText, refuse_in_json

ADMITTED: Final = "darkroom.admitted"
"""Key in the scope of a request that has passed `RequestGuard`, so that nobody asks the same again."""

Guard = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""Answers a request by that application, or refuses it."""


class RequestGuard:
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
        if RequestGuard.guard is None or scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            scope[ADMITTED] = True
            await RequestGuard.guard(self._app, scope, receive, send)


def middlewares() -> list[Middleware]:
    """Return what Serve puts around itself, the outermost last."""
    refuse_in_json()
    return [
        Middleware(RequestGuard),
        Middleware(PlainText),
        Middleware(Lingering, on_demand=_application_is_here()),
        Middleware(ClientHeaders),
        Middleware(HalfClosed),
    ]


def _application_is_here() -> bool:
    """Whether the application runs on this event loop, as in replicas that HAProxy sends requests to."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return not constants.RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
