"""Refuses requests that would wait too long by their headers, before Ray Serve and before their body is read."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.admission import check_wait
from deployments.http.auth import Access
from deployments.http.late_refusals import Late, body_bytes
from deployments.http.parameters import timeout_s
from deployments.http.responses import refusal
from deployments.logs import log_refusal
from deployments.places import Places
from deployments.request_errors import Overloaded
from deployments.service_config import LiveConfig
from pipeline.errors import ClientError

MOST_HELD: Final = 2048
"""Refusals held back at a time: half of the connections that HAProxy has; each takes about 20 kB."""

_REFUSAL: Final = "darkroom.refusal"
"""Key in the scope of a request that is refused: why, and the seconds that it has."""

_STALE_AFTER_S: Final = 0.01
"""While more waits than may, the wait is foreseen anew after this long: going through the queue takes time as well."""


class EarlyRefusals:
    """Decides by the headers of a request whether it is refused as it would wait too long.

    A large image is told by the length of its body: it has to wait for more than a small one.

    Args:
        expected_wait_s: bytes of a body -> seconds until the engine should turn to what is in it.
        live: the settings in force.
        access: a client without a key is told that, by the application.
        note: called for each refusal.
        places: how many requests Serve lets into the replica now.
        make_places: called with how many more should be free, for each request while next to none are.
        around: middlewares of the application that an answer needs, the outermost first.
    """

    def __init__(
        self,
        expected_wait_s: Callable[[int], float],
        live: Callable[[], LiveConfig],
        access: Access,
        note: Callable[[], None],
        places: Callable[[], Places],
        make_places: Callable[[int], None],
        around: Sequence[Middleware] = (),
    ) -> None:
        self._expected_wait_s, self._live, self._access, self._note = expected_wait_s, live, access, note
        self._places, self._make_places, self._taken = places, make_places, 0
        self._late = Late(MOST_HELD)
        self._foreseen_at_s, self._foreseen_bytes, self._foreseen_s = 0.0, 0, 0.0
        self._answer: ASGIApp = self._refuse
        for middleware in reversed(around):
            self._answer = middleware.cls(self._answer, *middleware.args, **middleware.kwargs)

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the application answer a request, unless it is refused."""
        if scope["method"] not in ("POST", "PUT") or not scope["path"].rstrip("/").endswith("/predict"):
            await app(scope, receive, send)
        elif await self._is_refused(scope):
            await self._answer(scope, receive, send)
        else:
            self._taken += 1
            try:
                await app(scope, receive, send)
            finally:
                self._taken -= 1

    async def _is_refused(self, scope: Scope) -> bool:
        """Whether there is too much; what is wrong with a request otherwise is for the application to say."""
        request = Request(scope)
        try:
            limit_s = timeout_s(request, self._live())
            places = self._places()
            if lacking := places.lacking(self._taken):
                self._make_places(lacking)
            places.check(self._taken)
            check_wait(self._foreseen(request) * places.rounds(self._taken), self._live().max_wait_s, limit_s)
            return False
        except ClientError:
            return False
        except Overloaded as error:
            scope[_REFUSAL] = error.with_traceback(None), limit_s
        try:
            await self._access.check(request.headers.get("authorization"))
        except ClientError:
            return False
        return True

    def _foreseen(self, request: Request) -> float:
        """Seconds that the request would wait in the engine."""
        size, now_s = body_bytes(request.headers), time.monotonic()
        is_fresh = now_s - self._foreseen_at_s < _STALE_AFTER_S and self._foreseen_bytes <= size
        if not is_fresh or self._foreseen_s <= self._live().max_wait_s:
            self._foreseen_at_s, self._foreseen_bytes = now_s, size
            self._foreseen_s = self._expected_wait_s(size)
        return self._foreseen_s

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error, limit_s = scope[_REFUSAL]
        request_id = Headers(scope=scope).get("x-request-id") or str(uuid.uuid4())
        self._note()
        log_refusal(error, request_id=request_id)
        if await self._late.hold(error, limit_s, scope, receive):
            response = refusal(error, request_id)
            response.headers["X-Request-ID"] = request_id
            await response(scope, receive, send)
