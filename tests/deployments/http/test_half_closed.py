"""Tests of clients that have closed their sending half, and of clients that have gone (half_closed.py)."""

import socket
import time
from contextlib import ExitStack

import pytest

from deployments.http import half_closed
from deployments.http.client_address import PeerConnection
from tests.support.balancer import read_reply
from tests.support.counted_places import CountedPlaces
from tests.support.sockets import answered, head
from tests.support.waiting import until


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


def test_a_kernel_that_fails_to_list_connections_is_asked_again(
    haproxy: int, places: CountedPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the kernel does not list the connections once, the next look finds the client that has gone."""
    failed = list[int]()

    def failing_at_first(port: int) -> set[PeerConnection]:
        if len(failed) < 2:
            failed.append(port)
            raise TimeoutError("the kernel's answer is late")
        return real(port)

    real = half_closed.half_closed
    monkeypatch.setattr(half_closed, "half_closed", failing_at_first)
    test_the_work_of_a_client_that_has_gone_is_dropped(haproxy, places)
    assert len(failed) == 2


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
