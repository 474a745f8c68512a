"""Tests of requests as raw bytes to a running service: every refusal is a problem document, and none is a 500."""

import socket

import pytest

from harness.photographs import jpeg, photograph
from tests.support.balancer import Reply, read_reply, sent
from tests.support.running_service import Service
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))
HOST = b"Host: photos.example\r\n"
IMAGE = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(CAT)
LARGE = b"Content-Type: image/jpeg\r\nContent-Length: 50000000\r\nExpect: 100-continue\r\n"

REFUSED = {
    b"GET /nowhere HTTP/1.1\r\n": 404,
    b"GET //predict HTTP/1.1\r\n": 404,
    b"GET /PREDICT HTTP/1.1\r\n": 404,
    b"GET /predict// HTTP/1.1\r\n": 404,
    b"GET /%ff%00 HTTP/1.1\r\n": 404,
    b"GET /?\x7e%zz HTTP/1.1\r\n": 404,
    b"DELETE /predict HTTP/1.1\r\n": 405,
    b"BREW /predict HTTP/1.1\r\n": 400,
    b"POST /predict HTTP/1.1\r\nContent-Length: 0\r\n": 400,
    b"POST /predict HTTP/1.1\r\n" + LARGE: 413,
    b"POST /nowhere HTTP/1.1\r\n" + LARGE: 404,
    b"POST /predict HTTP/1.1\r\n" + LARGE.replace(b"image/jpeg", b"text/plain"): 415,
    b"GET / HTTP/1.1\r\nCookie: " + b"a" * 20_000 + b"\r\n": 431,
    b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n": 414,
}


@pytest.fixture(autouse=True, scope="module")
def _replica_is_known(service: Service) -> None:
    """Wait until HAProxy knows the first replica; before, Serve's own proxy would invite every body."""
    refused = b"POST /predict HTTP/1.1\r\n" + LARGE + HOST + b"\r\n"
    until(lambda: (reply := sent(_port(service), refused)) and reply.status != 100)


def _port(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


@pytest.mark.parametrize("head", REFUSED, ids=lambda head: head[:30].decode("ascii", "replace"))
def test_what_is_refused_is_a_problem_document(service: Service, head: bytes) -> None:
    """A refusal is a problem document, sent at once and without inviting the body."""
    reply = sent(_port(service), head + HOST + b"\r\n")
    assert reply is not None
    assert (reply.status, reply.problem["request_id"]) == (REFUSED[head], reply.headers["x-request-id"])


@pytest.mark.parametrize("path", [b"/info", b"/info/", b"/stats/?seconds=1", b"/openapi.json/"])
def test_a_slash_at_the_end_is_no_other_path(service: Service, path: bytes) -> None:
    reply = sent(_port(service), b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert reply is not None
    assert reply.status == 200


def test_options_says_what_a_path_takes(service: Service) -> None:
    reply = sent(_port(service), b"OPTIONS /predict HTTP/1.1\r\n" + HOST + b"\r\n")
    assert reply is not None
    assert (reply.status, set(reply.headers["allow"].split(", "))) == (204, {"POST", "PUT"})


@pytest.mark.parametrize(
    "header",
    ["X-Request-Timeout-Seconds: 0.001", "X-Request-Disconnect-Disabled: caf\xe9", "X-Session-Id: caf\xe9",
     "serve_multiplexed_model_id: caf\xe9", "X-Request-ID: caf\xe9", f"X-Request-ID: {'i' * 15_000}", "X-Other: \xff",
     "traceparent: caf\xe9", "X-Forwarded-For: 192.0.2.1"],
)  # fmt: skip
def test_no_header_keeps_an_image_from_its_answer(service: Service, header: str) -> None:
    """No header prevents the answer to an image, although Serve obeyed some and failed to decode others."""
    head = b"POST /predict/ HTTP/1.1\r\n" + HOST + IMAGE + header.encode("latin-1") + b"\r\n\r\n"
    reply = sent(_port(service), head + CAT)
    assert reply is not None
    assert reply.status == 200
    assert len(reply.headers["x-request-id"]) == 36


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_a_client_that_closes_its_half_gets_its_answer(service: Service, expect: bytes) -> None:
    with socket.create_connection(("127.0.0.1", _port(service)), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\n" + HOST + IMAGE + expect + b"\r\n" + CAT)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            assert _answer(file).status == 200


def _answer(file: object) -> Reply:
    """Return the first answer that is not an interim one."""
    while (reply := read_reply(file)) and reply.status < 200:
        pass
    assert reply is not None
    return reply
