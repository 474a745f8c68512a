"""ASGI middleware in front of Ray Serve: a request that is refused here costs Serve no work.

`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` in serve.env names `middlewares`; Serve calls it in each process that
listens for HTTP. If that variable is not set, the application itself refuses, at a higher cost.
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
"""Key in the ASGI scope of a request that `RequestGuard` has admitted, so that it is not checked again."""

Guard = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""Passes a request to the application, or refuses it."""


class RequestGuard:
    """ASGI middleware that lets the replica of this process decide on a request before Serve sees it.

    Args:
        app: Serve.

    Attributes:
        guard: guard of the replica; None if no replica runs in this process, as in Serve's own proxy.
    """

    guard: Guard | None = None

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if RequestGuard.guard is None or scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            scope[ADMITTED] = True
            await RequestGuard.guard(self._app, scope, receive, send)


def middlewares() -> list[Middleware]:
    """Return the middlewares that Serve puts around itself, the outermost last."""
    refuse_in_json()
    return [
        Middleware(RequestGuard),
        Middleware(PlainText),
        Middleware(Lingering, on_demand=_application_is_here()),
        Middleware(ClientHeaders),
        Middleware(HalfClosed),
    ]


def _application_is_here() -> bool:
    """Return whether the application runs on this event loop, as in replicas behind HAProxy."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return not constants.RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD
