"""Tests of the headers that HAProxy passes on, removes, sets and replaces."""

import re

import pytest

from deployments.http.haproxy_rules import SOURCE_HEADER
from tests.support.balancer import sent
from tests.support.echo_replica import GET, seen


@pytest.mark.parametrize(
    "name",
    [
        "X-Request-Disconnect-Disabled",
        "X-Request-Timeout-Seconds",
        "x-session-id",
        "X_Session-ID",
        "serve_multiplexed_model_id",
        "Serve-Multiplexed-Model-Id",
        "X-Serve-Router-Anything",
    ],
)
def test_headers_of_serves_own_do_not_pass(balanced: int, name: str) -> None:
    """Serve's internal headers from a client do not reach the replica.

    They control Serve, for example which work to drop.
    """
    reply = sent(balanced, GET + name.encode() + b": caf\xe9\r\nX-Other: stays\r\n\r\n")
    assert name.lower() not in seen(reply)
    assert seen(reply)["x-other"] == ["stays"]


def test_the_address_of_a_client_reaches_the_replica(balanced: int) -> None:
    """HAProxy sends the client's address in a header, and replaces one of that name from the client."""
    reply = sent(balanced, GET + b"X-Darkroom-Source: 192.0.2.1 secret-of-the-run\r\n\r\n")
    (source,) = seen(reply)[SOURCE_HEADER]
    assert re.fullmatch(rf"127\.0\.0\.1 \d+ {balanced} secret-of-the-run", source)


@pytest.mark.parametrize("asked", ["a", "01J9-ab_c.d:e~f", "Root=1-5759e988-bd862e3fe1be46a994272793", "x" * 128])
def test_a_request_id_of_a_clients_stays(balanced: int, asked: str) -> None:
    assert seen(sent(balanced, GET + f"X-Request-ID: {asked}\r\n\r\n".encode()))["x-request-id"] == [asked]


@pytest.mark.parametrize(
    "asked", [b"", b"X-Request-ID: \r\n", b"X-Request-ID: " + b"x" * 129 + b"\r\n", b"X-Request-ID: caf\xc3\xa9\r\n",
              b'X-Request-ID: "\r\n', b"X-Request-ID: a b\r\n", b"X-Request-ID: a\r\nX-Request-ID: b\r\n"]
)  # fmt: skip
def test_other_request_ids_are_replaced(balanced: int, asked: bytes) -> None:
    """An unsuitable request id is replaced by a unique one, because ids are repeated in answers and in the log."""
    first, second = (seen(sent(balanced, GET + asked + b"\r\n"))["x-request-id"] for _ in range(2))
    assert len(first) == len(second) == 1
    assert len(first[0]) == 36
    assert first != second
