"""Tests of the middleware between a client's socket and Serve (deployments/http/middleware.py and lingering.py).

Serve's own function starts uvicorn. A class stands in for Serve: it reads ahead and counts places in the same way. The
application behind it refuses or reads bodies as Darkroom does.
"""

import pytest

from tests.support.balancer import sent


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [("/plain", 503, "Request dropped due to backpressure"), ("/raise", 500, "the request could not be handled"),
     ("/nowhere", 404, "Not Found")],
)  # fmt: skip
def test_plain_text_becomes_a_problem_document(port: int, path: str, status: int, detail: str) -> None:
    reply = sent(port, f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: an-id\r\n\r\n".encode())
    assert reply is not None
    assert (reply.status, reply.problem["detail"], reply.problem["request_id"]) == (status, detail, "an-id")
    assert ("retry-after" in reply.headers) == (status == 503)


@pytest.mark.parametrize("request_", [b"garbage\r\n\r\n", b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_what_uvicorn_cannot_parse_is_a_problem_document(uvicorn: int, request_: bytes) -> None:
    reply = sent(uvicorn, request_)
    assert reply is not None
    assert reply.problem["status"] == 400
    assert reply.problem["request_id"] == reply.headers["x-request-id"]


def test_a_websocket_is_not_refused_in_plain_text(port: int, uvicorn: int) -> None:
    """A WebSocket handshake through HAProxy is answered as an ordinary request, never in plain text."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    key = b"dGhlIHNhbXBsZSBub25jZQ=="
    reply = sent(port, b"GET /nowhere HTTP/1.1\r\nHost: x\r\n" + upgrade + key + b"\r\n\r\n")
    assert reply is not None
    assert reply.problem["status"] == (400 if port == uvicorn else 404)


@pytest.mark.parametrize(
    ("header", "passes"),
    [
        ("X-Request-Disconnect-Disabled: ?1", False),
        ("x-request-timeout-seconds: 0.001", False),
        ("X_Session_Id: caf\xe9", False),
        ("Serve-Multiplexed-Model-ID: caf\xe9", False),
        ("X-Serve-Router-Target: a", False),
        ("X-Other: caf\xe9", True),
        ("X-Request-Timeout-Ms: 5000", True),
    ],
)
def test_headers_of_serves_own_do_not_pass(port: int, header: str, passes: bool) -> None:
    """Serve's internal headers are removed also where a request bypasses HAProxy."""
    reply = sent(port, b"GET /headers HTTP/1.1\r\nHost: x\r\n" + header.encode("latin-1") + b"\r\n\r\n")
    assert reply is not None
    assert reply.status == 200
    assert (header.partition(":")[0].lower() in reply.body.decode()) == passes


@pytest.mark.parametrize(
    ("lines", "kept"),
    [("X-Request-ID: an-id\r\n", True), ("", False), ("X-Request-ID: \xe9\r\n", False), ('X-Request-ID: "\r\n', False),
     (f"X-Request-ID: {'x' * 129}\r\n", False), ("X-Request-ID: a\r\nX-Request-ID: b\r\n", False)],
)  # fmt: skip
def test_odd_request_ids_are_replaced(port: int, lines: str, kept: bool) -> None:
    reply = sent(port, b"GET /headers HTTP/1.1\r\nHost: x\r\n" + lines.encode("latin-1") + b"\r\n")
    assert reply is not None
    request_id = reply.headers["x-request-id"]
    assert request_id == "an-id" if kept else len(request_id) == 36
    assert reply.body.decode().count(request_id) == 1
