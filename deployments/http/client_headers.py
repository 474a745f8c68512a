"""Removal of client headers that Serve would obey."""

import re
import uuid
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http.haproxy_rules import CONTROL_HEADERS, REQUEST_ID

_REQUEST_ID_HEADER: Final = b"x-request-id"
_TRACE_HEADERS: Final = (b"traceparent", b"tracestate")  # ASCII by their standard; Serve fails on other characters

_control_header: Final = lru_cache(re.compile(CONTROL_HEADERS.encode()).fullmatch)  # names are in small letters here
_request_id: Final = re.compile(REQUEST_ID.encode()).fullmatch


class ClientHeaders:
    """ASGI middleware that removes headers which Serve obeys and clients must not send.

    HAProxy removes them too; this middleware covers requests that do not come through HAProxy.

    Args:
        app: the next application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if "headers" in scope:
            scope["headers"] = _for_serve(scope["headers"])
        await self._app(scope, receive, send)


def _for_serve(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept, ids = [], []
    for name, value in headers:
        if name == _REQUEST_ID_HEADER:
            ids.append(value)
        elif not _control_header(name) and (name not in _TRACE_HEADERS or value.isascii()):
            kept.append((name, value))
    request_id = ids[0] if len(ids) == 1 and _request_id(ids[0]) else str(uuid.uuid4()).encode()
    return [*kept, (_REQUEST_ID_HEADER, request_id)]
