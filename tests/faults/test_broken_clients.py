"""Tests of slow and broken clients, by raw sockets: each holds only its own connection, for a bounded time."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from harness.photographs import jpeg, photograph
from tests.support.running_service import Service, live_config, name_of
from tests.support.waiting import PATIENCE_S, until

CAT = jpeg(photograph("cat"))
START = b"POST /predict HTTP/1.1\r\nHost: darkroom\r\nContent-Type: image/jpeg\r\n"


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    """Open a connection to the service, for single bytes."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=PATIENCE_S) as connection:
        yield connection


def answer(connection: socket.socket) -> bytes:
    """Return all data until the server closes, or has sent one whole answer."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
            head, found, body = received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if found and length and len(body) >= int(length):
                break
    except ConnectionResetError:  # the server reads nothing after its refusal
        pass
    return received


def status(received: bytes) -> int:
    """Return the status of an answer, 0 if there is none."""
    return int(received.split()[1]) if received else 0


def balancers(service: Service) -> set[int]:
    """Return the pids of the service's HAProxies: one, and those that are being replaced."""
    return {process.pid for process in service.processes() if name_of(process) == "haproxy"}


def with_length(length: int | str) -> bytes:
    return START + f"Content-Length: {length}\r\n\r\n".encode()


@pytest.fixture(scope="module", autouse=True)
def slow_headers(service: Service) -> Iterator[Future[bytes]]:
    """Answer to a client that sends its headers byte by byte, beside all tests of this file."""

    def send() -> bytes:
        with connected(service) as connection:
            connection.sendall(START + b"X-Slow: ")
            connection.settimeout(0.5)
            for _ in range(200):
                try:
                    connection.sendall(b"x")
                    return connection.recv(65536)
                except TimeoutError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    return b""
        raise AssertionError("it is still listening")

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(send)


@pytest.fixture(autouse=True)
def others(service: Service) -> Iterator[None]:
    """Check before and after each test that another client is answered and no memory is held."""
    assert service.post(CAT).status_code == 200
    yield
    assert service.post(CAT).status_code == 200
    until(lambda: service.info()["held_bytes"] == 0)


def test_a_body_that_is_cut_off_gives_its_room_back(service: Service) -> None:
    """A body that is cut off gives its memory back once its client has gone."""
    with connected(service) as connection:
        connection.sendall(with_length(len(CAT)) + CAT[: len(CAT) // 2])
        until(lambda: service.info()["held_bytes"] == len(CAT) // 2)


def test_bodies_without_end_are_given_up(service: Service) -> None:
    """A fast endless body is refused by its size.

    A slow one is refused by the timeout, however regular its bytes are.
    """
    limits = {"max_image_bytes": 1 << 20, "body_timeout_s": 1.0}
    with (
        live_config(service, **limits),
        connected(service) as trickling,
        connected(service) as quick,
        connected(service) as slow,
    ):
        trickling.sendall(with_length(len(CAT)))
        for connection in (quick, slow):
            connection.sendall(START + b"Transfer-Encoding: chunked\r\n\r\n")
        slow.sendall(b"1\r\n\xff\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(17):
            quick.sendall(chunk)
        assert status(_answer_to_trickle(trickling, CAT[:400])) == 408
        assert status(answer(quick)) == 413
        assert status(answer(slow)) == 408
        assert service.post(CAT).status_code == 200


def _answer_to_trickle(connection: socket.socket, data: bytes) -> bytes:
    """Return the answer that arrives while a byte is sent every twentieth of a second."""
    connection.settimeout(0.05)
    for byte in data:
        connection.sendall(bytes([byte]))
        with suppress(TimeoutError):
            return connection.recv(65536)
    return b""


def test_a_refusal_reaches_a_client_that_still_sends(service: Service) -> None:
    """A refusal reaches a client that still sends, also if its HAProxy is being replaced and closes the connection."""
    with connected(service) as connection:
        connection.sendall(with_length(len(CAT)) + CAT)
        assert status(answer(connection)) == 200
        before = balancers(service)
        with live_config(service, top_k=3):
            until(lambda: balancers(service) - before)
            connection.sendall(START.replace(b"image/jpeg", b"text/plain") + b"Content-Length: 4000000\r\n\r\n")
            for _ in range(40):
                connection.sendall(b"x" * 100_000)
                time.sleep(0.01)
            received = answer(connection)
    assert status(received) == 415
    assert b"connection: close" in received.lower()


def test_a_refusal_does_not_wait_for_a_body_that_does_not_come(service: Service) -> None:
    with connected(service) as connection:
        connection.sendall(START.replace(b"image/jpeg", b"text/plain") + b"Content-Length: 4000000\r\n\r\nxxxx")
        assert status(answer(connection)) == 415


def test_a_body_longer_than_announced_is_answered_as_announced(service: Service) -> None:
    """A body longer than announced is answered by its announced part.

    The rest is a request of its own, here a bad one.
    """
    with connected(service) as connection:
        connection.sendall(with_length(len(CAT)) + CAT + b"\0" * 1000)
        assert status(answer(connection)) == 200


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: many\r\n",
        b"Content-Length: 10\r\nContent-Length: 11\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        b"X-Name without colon\r\n",
        b"X-Flood: " + b"x" * 100_000 + b"\r\n",
        b"".join(b"X-Flood-%d: x\r\n" % number for number in range(10_000)),
    ],
    ids=["negative", "no number", "two lengths", "two encodings", "no colon", "one large header", "many headers"],
)
def test_headers_that_make_no_sense_are_refused(service: Service, headers: bytes) -> None:
    """Contradictory headers are refused with a 4xx or a closed connection, and no memory is held."""
    with connected(service) as connection:
        try:
            connection.sendall(START + headers + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return
        assert status(answer(connection)) in (0, 400, 408, 411, 413, 431, 501)


@pytest.mark.parametrize(
    "chunk", [b"xyz\r\n", b"-5\r\nhello\r\n", b"FFFFFFFFFFFFFFFFF\r\n"], ids=["no hex", "negative", "huge"]
)
def test_chunks_that_make_no_sense_are_refused(service: Service, chunk: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(START + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        assert status(answer(connection)) in (0, 400)


def test_many_connections_that_say_nothing_keep_nobody_out(service: Service) -> None:
    """Two hundred silent connections keep no other client out."""
    address = urlsplit(service.url)
    idle = [socket.create_connection((address.hostname, address.port or 80)) for _ in range(200)]
    try:
        assert service.post(CAT).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_headers_a_byte_at_a_time_are_given_up(slow_headers: Future[bytes]) -> None:
    """A client that sends its headers byte by byte is disconnected, with 408 or without an answer."""
    assert status(slow_headers.result(PATIENCE_S)) in (0, 408)
