"""Refuses requests under overload by their headers, ahead of Ray Serve and before their body is read."""

import uuid
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http.late_refusals import body_bytes
from deployments.http.parameters import timeout_s
from deployments.http.refusals import Refusals
from deployments.http.responses import refusal
from deployments.request_errors import Overloaded
from deployments.service import InferenceService
from pipeline.errors import ClientError, DarkroomError

MAX_HELD_REFUSALS: Final = 2048
"""Limit on refusals that are delayed at a time: half of HAProxy's connections; each takes about 20 kB."""

_REFUSAL_KEY: Final = "darkroom.refusal"
"""Key in the ASGI scope of a refused request: the reason, and its time limit in seconds."""


class EarlyRefusals:
    """Refuses a request that would wait too long before its body is read.

    The application reports all other errors.

    Args:
        service: decides which requests to refuse.
        refusals: logs and delays the refusals.
        require_key: the middleware around the application's own routes; a client without a valid key gets 401 instead.
        around: middlewares of the application that a response needs, the outermost first.
    """

    def __init__(
        self,
        service: InferenceService,
        refusals: Refusals,
        require_key: Middleware,
        around: Sequence[Middleware] = (),
    ) -> None:
        self._service, self._refusals = service, refusals
        self._answer = _stacked(around, self._refuse)
        self._raise = _stacked([require_key], _raise_refusal)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or refuse it."""
        if not self._refusals.asks_for_inference(scope):
            await app(scope, receive, send)
        elif refused := self._refused(Request(scope)):
            scope[_REFUSAL_KEY] = refused
            await self._answer(scope, receive, send)
        else:
            with self._service.admission.place():
                await app(scope, receive, send)

    def _refused(self, request: Request) -> tuple[Overloaded, float] | None:
        """Return the reason to refuse a request and its time limit in seconds; None to admit it."""
        try:
            limit_s = timeout_s(request, self._service.live)
            self._service.admission.check(body_bytes(request.headers), limit_s)
        except ClientError:
            return None
        except Overloaded as error:
            return error.with_traceback(None), limit_s
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, limit_s = scope[_REFUSAL_KEY]
        try:
            await self._raise(scope, receive, send)
        except DarkroomError as error:
            self._service.note_refused(error)
            request_id = Headers(scope=scope).get("x-request-id") or str(uuid.uuid4())
            if await self._refusals.settle(error, limit_s, scope, receive, request_id):
                response = refusal(error, request_id)
                response.headers["X-Request-ID"] = request_id
                await response(scope, receive, send)


async def _raise_refusal(scope: Scope, _receive: Receive, _send: Send) -> None:
    error, _ = scope[_REFUSAL_KEY]
    raise error


def _stacked(middlewares: Sequence[Middleware], app: ASGIApp) -> ASGIApp:
    """Wrap an application in middlewares, the outermost first."""
    for middleware in reversed(middlewares):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app
