"""Tests of requests that HAProxy refuses because they are malformed or too large, and of odd ones that pass."""

import socket

import pytest

from tests.support.balancer import read_reply, sent
from tests.support.echo_replica import GET, seen


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + b"Cookie: " + b"a" * 17_000 + b"\r\n\r\n", 431),
        (GET + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 60) for n in range(300)) + b"\r\n", 431),
        (b"GET /?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 404),
        (b"CONNECT x HTTP/1.1\r\nHost: y\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ],
)
def test_haproxy_refuses_in_problem_documents(balanced: int, request_: bytes, status: int) -> None:
    reply = sent(balanced, request_)
    assert reply is not None
    assert reply.status == status
    assert reply.problem["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + b"bad header: y\r\n\r\n", 400),
        (GET + b"X-A : y\r\n\r\n", 400),
        (GET + b"Content-Length : 3\r\n\r\nabc", 400),
        (GET + b"X-First: y\r\nX(A): y\r\nX-Last: y\r\n\r\n", 400),
        (GET + b'X"A": y\r\n\r\n', 400),
        (GET + b"X-A\\: y\r\n\r\n", 400),
        (GET + b"X-A\x00: y\r\n\r\n", 400),
        (GET + b"X-A\x7f: y\r\n\r\n", 400),
        (GET + "caf\xe9: y\r\n\r\n".encode(), 400),
        (GET + b"X-A: a\x00b\r\n\r\n", 400),
        (GET + b"X-A: a\x01b\r\n\r\n", 400),
        (GET + b"X-A: a\x7f\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n X-A: y\r\nHost: x\r\n\r\n", 400),
        ("GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
        (b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
        (b"GET / GARBAGE\r\nHost: x\r\n\r\n", 505),
    ],
)
def test_malformed_requests_that_haproxy_can_read_do_not_pass(balanced: int, request_: bytes, status: int) -> None:
    """A malformed request is refused by HAProxy, although the replica would answer 200.

    The connection ends, because a header may hide another request.
    """
    with socket.create_connection(("127.0.0.1", balanced), timeout=15) as connection:
        connection.sendall(request_)
        with connection.makefile("rb") as file:
            reply = read_reply(file)
            assert reply is not None
            assert (reply.problem["status"], reply.headers["connection"]) == (status, "close")
            assert file.read() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.9\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"\r\n" + GET + b"\r\n",
        GET + b"!#$%&'*+-.^_`|~09azAZ: \t!~\xff\r\n\r\n",
        GET + b"X-A: a\r\n\tb\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET http://y/?q=~%FF'() HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        GET + b"Host: x\r\n\r\n",
    ],
)
def test_odd_but_sound_requests_pass(balanced: int, request_: bytes) -> None:
    assert "upgrade" not in seen(sent(balanced, request_))


def test_requests_on_the_way_at_once_are_answered_in_turn(balanced: int) -> None:
    with socket.create_connection(("127.0.0.1", balanced), timeout=15) as connection:
        connection.sendall(b"".join(GET + b"X-N: %d\r\n\r\n" % n for n in range(100)))
        with connection.makefile("rb") as file:
            assert [seen(read_reply(file))["x-n"] for _ in range(100)] == [[str(n)] for n in range(100)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",  # TLS
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + b"\r\n",
        b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",  # without its key
        GET + b"X-A\r\n\r\n",
        GET + b": y\r\n\r\n",
        GET + b"X-A: a\rb\r\n\r\n",
        GET + b"Host: y\r\n\r\n",
        GET + b"Content-Length: \r\n\r\n",
        GET + b"Content-Length: +3\r\n\r\nabc",
        GET + b"Content-Length: 99999999999999999999\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        GET + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Transfer-Encoding: gzip\r\n\r\n",
        GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: a\r\n" % n for n in range(600)) + b"\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_the_connection(balanced: int, garbage: bytes) -> None:
    """Bytes that are no HTTP request end the connection without an answer; see haproxy.py on HAProxy 2.8."""
    assert sent(balanced, garbage) is None
