"""Tests of the middleware between a client's socket and Serve (deployments/http/middleware.py and lingering.py).

Serve's own function starts uvicorn. A class stands in for Serve: it reads ahead and counts places in the same way. The
application behind it refuses or reads bodies as Darkroom does.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from ray.serve._private import http_util
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from ray.serve._private.http_util import configure_http_options_with_defaults, start_asgi_http_server
from ray.serve.config import HTTPOptions
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deployments.http import middleware as front
from deployments.http.haproxy import HALF_CLOSE_VARIABLE, SECRET_VARIABLE, edited
from deployments.http.lingering import MAX_LINGERING, SENDING_GRACE_S, BodyOnDemand
from deployments.local.endpoint import read_env
from harness.ports import free_port
from harness.repository import ROOT
from tests.support.balancer import balancing, read_reply, rendered, sent
from tests.support.waiting import until

HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
PIECE = b"x" * 65_536


class CountedPlaces:
    """Stands in for Serve: reads each body before the application does, and counts the requests inside."""

    def __init__(self) -> None:
        self.taken = self.dropped = 0
        self.may_answer = threading.Event()
        self._app = Starlette(
            routes=[
                Route("/read", self.read, methods=["POST"]),
                Route("/refuse", self.refuse, methods=["POST"]),
                Route("/stop", self.stop, methods=["POST"]),
                Route("/wait", self.wait, methods=["POST"]),
                Route("/plain", self.plain),
                Route("/-/healthz", self.headers),  # HAProxy's health check
                Route("/headers", self.headers),
            ],
            middleware=[Middleware(BodyOnDemand)],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["path"] == "/raise":
            raise ValueError("not for clients to see")

        proxy = ASGIDIReceiveProxy(scope, receive, asyncio.get_running_loop())
        reading = proxy.fetch_until_disconnect_task()
        answering = asyncio.create_task(self._app(scope, proxy, send))
        self.taken += 1
        try:
            await asyncio.wait([reading, answering], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():  # the client has gone
                self.dropped += 1
                answering.cancel()
        finally:
            self.taken -= 1
            reading.cancel()

    async def wait(self, _: Request) -> Response:
        """Answers when the test allows it."""
        while not self.may_answer.is_set():  # noqa: ASYNC110  set by another thread
            await asyncio.sleep(0.01)
        return JSONResponse("done")

    async def read(self, request: Request) -> Response:
        """Answers with the length of the body."""
        return JSONResponse(len(await request.body()))

    async def refuse(self, _: Request) -> Response:
        """Refuses without reading the body."""
        return Response(status_code=415)

    async def stop(self, request: Request) -> Response:
        """Reads only the first piece of a body."""
        async for _ in request.stream():
            break
        return Response(status_code=408)

    async def plain(self, _: Request) -> Response:
        """Answers an error in the form that Serve gives it."""
        return PlainTextResponse("Request dropped due to backpressure", 503, {"Retry-After": "3"})

    async def headers(self, request: Request) -> Response:
        """Answers with the headers that arrived."""
        return JSONResponse(request.headers.items())


@pytest.fixture(scope="module")
def places() -> CountedPlaces:
    """The stand-in for Serve."""
    return CountedPlaces()


@pytest.fixture(scope="module")
def uvicorn(places: CountedPlaces) -> Iterator[int]:
    """Port at which the application answers, behind uvicorn and the middleware."""
    port, servers = free_port(), list[Any]()

    async def serve() -> None:
        options = configure_http_options_with_defaults(HTTPOptions(host="127.0.0.1", port=port))
        options = http_util.configure_http_middlewares(options)
        task, server = await start_asgi_http_server(places, options, event_loop=asyncio.get_running_loop())
        servers.append(server)
        await task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "_application_is_here", lambda: True)
        patch.setenv(HALF_CLOSE_VARIABLE, "1")
        patch.setenv(SECRET_VARIABLE, "secret-of-the-run")
        patch.setattr(http_util, HOOK, read_env(ROOT / "serve.env")[HOOK])
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        until(lambda: servers and servers[0].started)
        yield port
    servers[0].should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory, uvicorn: int) -> Iterator[int]:
    """Port at which HAProxy answers, in front of the application."""
    folder, port = tmp_path_factory.mktemp("haproxy"), free_port()
    variables = {HALF_CLOSE_VARIABLE: "1", SECRET_VARIABLE: "secret-of-the-run"}
    text = edited(rendered(folder, "127.0.0.1", port, ("127.0.0.1", uvicorn)), variables, 1, 20_000)
    with balancing(folder, text, port, **variables):
        yield port


@pytest.fixture(params=["uvicorn", "haproxy"])
def port(request: pytest.FixtureRequest) -> int:
    """Port of uvicorn or of HAProxy, in turn, as a request may also bypass HAProxy."""
    port: int = request.getfixturevalue(request.param)
    return port


def head(path: str, size: int, *more: str) -> bytes:
    """Returns the head of a request that announces a body."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def answered(stack: ExitStack, port: int, request: bytes) -> tuple[socket.socket, Any]:
    """Opens a connection, sends a request, and returns the connection and a reader of it."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=15))
    connection.sendall(request)
    return connection, stack.enter_context(connection.makefile("rb"))


@pytest.mark.parametrize(
    "request_",
    [head("/refuse", 50_000_000, "Expect: 100-continue"), head("/nowhere", 50_000_000, "Expect: 100-continue"),
     b"POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"],
)  # fmt: skip
def test_a_refused_request_does_not_invite_its_body(port: int, request_: bytes) -> None:
    """A refused request gets its answer at once, without 100 Continue before it.

    Then the connection ends (RFC 9110, section 10.1.1).
    """
    began_at = time.monotonic()
    with ExitStack() as stack:
        _, file = answered(stack, port, request_)
        reply = read_reply(file)
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (404 if b"nowhere" in request_ else 415, "close")
        assert file.read() == b""
    assert time.monotonic() - began_at < SENDING_GRACE_S


@pytest.mark.parametrize(
    ("request_", "status"),
    [(head("/refuse", 50_000_000), 415), (head("/refuse", 50_000_000) + b"x", 415),
     (b"POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 415),
     (head("/stop", 50_000_000) + b"x", 408)],
)  # fmt: skip
def test_a_refused_client_that_falls_silent_keeps_no_connection(port: int, request_: bytes, status: int) -> None:
    """A refused client that stops sending loses its connection. HAProxy itself would wait for the rest of the body."""
    began_at = time.monotonic()
    with ExitStack() as stack:
        _, file = answered(stack, port, request_)
        reply = read_reply(file)
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert file.read() == b""
    assert time.monotonic() - began_at < SENDING_GRACE_S + 2


def test_a_refusal_after_an_invitation_ends_the_connection_too(port: int) -> None:
    with ExitStack() as stack:
        connection, file = answered(stack, port, head("/stop", 50_000_000, "Expect: 100-continue"))
        invitation = read_reply(file)
        assert invitation is not None
        assert invitation.status == 100
        connection.sendall(PIECE)
        reply = read_reply(file)
        assert reply is not None
        assert (reply.status, reply.headers["connection"]) == (408, "close")
        assert file.read() == b""


def test_a_body_that_is_wanted_is_invited(port: int) -> None:
    with ExitStack() as stack:
        connection, file = answered(stack, port, head("/read", 3 * len(PIECE), "Expect: 100-Continue"))
        invitation = read_reply(file)
        assert invitation is not None
        assert invitation.status == 100
        connection.sendall(3 * PIECE)
        reply = read_reply(file)
        assert reply is not None
        assert (reply.status, reply.body) == (200, b"%d" % (3 * len(PIECE)))


def test_bodies_are_read_as_the_application_asks(port: int) -> None:
    """A body is read on demand, at most one piece ahead.

    Serve would read all of it, whatever becomes of the request.
    """
    with ExitStack() as stack:
        connection, file = answered(stack, port, head("/read", 64 * len(PIECE)))
        for _ in range(64):
            connection.sendall(PIECE)
        reply = read_reply(file)
        assert reply is not None
        assert reply.body == b"%d" % (64 * len(PIECE))


def test_a_client_that_is_still_sending_gets_to_read_its_refusal(port: int) -> None:
    """The body of a refused client is read to its end.

    Otherwise its sending would fail, and it would not look for an answer.
    """
    size = 256 * len(PIECE)
    with ExitStack() as stack:
        connection, file = answered(stack, port, head("/refuse", size))
        for _ in range(256):
            connection.sendall(PIECE)
        reply = read_reply(file)
        assert reply is not None
        assert reply.status == 415
        assert "connection" not in reply.headers  # the connection can be used again
        connection.sendall(head("/read", 1) + b"x")
        assert (again := read_reply(file))
        assert again.body == b"1"


def test_lingering_takes_no_place_and_ends_for_those_who_dribble(port: int, places: CountedPlaces) -> None:
    """Refused bodies that are still read take no place in the replica, and reading ends for slow ones.

    Otherwise clients without a key could fill all places.
    """
    with ExitStack() as stack:
        slow = [answered(stack, port, head("/refuse", 1_000_000) + b"x")[1] for _ in range(MAX_LINGERING + 8)]
        until(lambda: places.taken == 0)
        began_at = time.monotonic()
        last = read_reply(slow[-1])  # above MAX_LINGERING
        assert last is not None
        assert time.monotonic() - began_at < SENDING_GRACE_S
        assert (reply := sent(port, head("/read", 1) + b"x"))
        assert reply.body == b"1"
        for file in slow[:-1]:
            assert (refusal := read_reply(file))
            assert (refusal.status, refusal.headers["connection"]) == (415, "close")
        assert time.monotonic() - began_at < SENDING_GRACE_S + 10


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


def test_a_client_that_has_closed_its_half_gets_its_answer(haproxy: int, places: CountedPlaces) -> None:
    """A client that has closed its sending half gets its answer, after interim answers that it skips."""
    with ExitStack() as stack:
        connection, file = answered(stack, haproxy, head("/wait", 1) + b"x")
        connection.shutdown(socket.SHUT_WR)
        until(lambda: places.taken == 1)
        while (reply := read_reply(file)) and reply.status == 100:
            places.may_answer.set()
        assert reply is not None
        assert (reply.status, reply.body) == (200, b'"done"')
    places.may_answer.clear()


def test_the_work_of_a_client_that_has_gone_is_dropped(haproxy: int, places: CountedPlaces) -> None:
    """The work of a client that has gone is dropped.

    Interim answers show whether a client has gone or has only closed its sending half.
    """
    before, began_at = places.dropped, time.monotonic()
    with ExitStack() as stack:
        answered(stack, haproxy, head("/wait", 1) + b"x")
        until(lambda: places.taken == 1)
    until(lambda: places.dropped == before + 1)
    assert places.taken == 0
    assert time.monotonic() - began_at < 5


def test_a_client_that_waits_is_not_asked(haproxy: int, places: CountedPlaces) -> None:
    """A client that is still connected gets no interim answer.

    Some balancers and load generators take one for the answer.
    """
    with ExitStack() as stack:
        _, file = answered(stack, haproxy, head("/wait", 1) + b"x")
        _, other = answered(stack, haproxy, head("/wait", 1) + b"x")
        other_connection = stack.enter_context(socket.create_connection(("127.0.0.1", haproxy)))
        other_connection.sendall(head("/wait", 1) + b"x")
        other_connection.close()  # so that an interim answer is due to one client
        until(lambda: places.taken == 3)
        until(lambda: places.taken == 2)
        places.may_answer.set()
        assert [reply.status for reply in (read_reply(file), read_reply(other)) if reply] == [200, 200]
    places.may_answer.clear()
