"""Tests of refused requests whose bodies are still on their way (lingering.py), and of bodies that are wanted."""

import time
from contextlib import ExitStack

import pytest

from deployments.http.lingering import MAX_LINGERING, SENDING_GRACE_S
from tests.support.balancer import read_reply, sent
from tests.support.counted_places import CountedPlaces
from tests.support.sockets import PIECE, answered, head
from tests.support.waiting import until


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


SILENT = [
    (head("/refuse", 50_000_000), 415),
    (head("/refuse", 50_000_000) + b"x", 415),
    (b"POST /refuse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 415),
    (head("/stop", 50_000_000) + b"x", 408),
]
"""Requests whose bodies stop early, and the statuses with which they are refused."""


def test_refused_clients_that_fall_silent_keep_no_connections(port: int) -> None:
    """Refused clients that stop sending lose their connections, one by one.

    HAProxy itself would wait for the rest of each body, for longer than these sockets do.
    """
    with ExitStack() as stack:
        files = [answered(stack, port, request)[1] for request, _ in SILENT]
        connection, invited = answered(stack, port, head("/stop", 50_000_000, "Expect: 100-continue"))
        invitation = read_reply(invited)
        assert invitation is not None
        assert invitation.status == 100
        connection.sendall(PIECE)
        for file, status in zip([*files, invited], [*(status for _, status in SILENT), 408], strict=True):
            reply = read_reply(file)
            assert reply is not None
            assert (reply.status, reply.headers["connection"]) == (status, "close")
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
