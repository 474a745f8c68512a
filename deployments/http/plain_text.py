"""Problem documents (RFC 9457) in place of the plain-text errors of Serve and uvicorn."""

import uuid
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_REQUEST_ID_HEADER: Final = b"x-request-id"


class PlainText:
    """ASGI middleware that replaces plain-text errors and exceptions of Serve with problem documents.

    Args:
        app: Serve.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "websocket":  # only without HAProxy, which removes the Upgrade header
            for part in _problem(scope, 400, "this service speaks plain HTTP; send no Upgrade: websocket", ()):
                await send({**part, "type": part["type"].replace("http", "websocket.http")})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        told: list[Message] = []  # parts of a plain-text error so far

        async def send_problem(message: Message) -> None:
            nonlocal started
            if told or (message["type"] == "http.response.start" and _is_plain_error(message)):
                told.append(message)
                if message["type"] == "http.response.start" or message.get("more_body", False):
                    return
                started = True
                text = b"".join(part.get("body", b"") for part in told[1:]).decode("utf-8", "replace")
                for part in _problem(scope, told[0]["status"], text, told[0]["headers"]):
                    await send(part)
            else:
                started = True
                await send(message)

        try:
            await self._app(scope, receive, send_problem)
        except Exception:
            if not started:
                for part in _problem(scope, 500, "the request could not be handled", ()):
                    await send(part)
            raise


def _is_plain_error(start: Message) -> bool:
    headers = dict(start.get("headers", ()))
    return bool(
        start["status"] >= HTTPStatus.BAD_REQUEST and headers.get(b"content-type", b"").startswith(b"text/plain")
    )


def _problem(scope: Scope, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]]) -> list[Message]:
    request_id = dict(scope["headers"]).get(_REQUEST_ID_HEADER, b"").decode("ascii")
    body = problem_document(status, detail, request_id)
    other = [(name, value) for name, value in headers if name not in (b"content-type", b"content-length")]
    own = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    if status == HTTPStatus.SERVICE_UNAVAILABLE and not any(name == b"retry-after" for name, _ in other):
        own.append((b"retry-after", b"1"))
    return [
        {"type": "http.response.start", "status": status, "headers": own + other},
        {"type": "http.response.body", "body": body},
    ]


def problem_document(status: int, detail: str, request_id: str) -> bytes:
    """Make a problem document (RFC 9457) for an error that is no `DarkroomError`."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:  # 499
        title = "Request not answered"
    return orjson.dumps(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": request_id}
    )


def refuse_in_json() -> None:
    """Make uvicorn answer requests that it cannot parse with a problem document."""
    HttpToolsProtocol.send_400_response = _send_400_response  # type: ignore[method-assign]


def _send_400_response(self: Any, msg: str) -> None:
    """Answer in plain text; replaces uvicorn's method of this name."""
    body = problem_document(HTTPStatus.BAD_REQUEST, msg, request_id := str(uuid.uuid4()))
    head = (
        f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    self.transport.write(head.encode() + body)
    self.transport.close()
