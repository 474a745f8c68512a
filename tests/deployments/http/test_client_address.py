"""Tests of the address that a request comes from (deployments/http/client_address.py)."""

from typing import Any

import pytest

from deployments.http.client_address import UNKNOWN_ADDRESS, source_of
from deployments.http.haproxy_rules import SECRET_VARIABLE

PEER = ("127.0.0.1", 50000)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the secret that HAProxy and this replica share."""
    monkeypatch.setenv(SECRET_VARIABLE, "secret-of-the-run")
    return "secret-of-the-run"


def scope(*told: str, client: tuple[str, int] | None = PEER) -> dict[str, Any]:
    """Return a request with these values of HAProxy's header."""
    headers = [(b"host", b"photos.example"), *((b"x-darkroom-source", value.encode("latin-1")) for value in told)]
    return {"type": "http", "client": client, "headers": headers}


def test_behind_haproxy_it_is_the_address_that_haproxy_saw(secret: str) -> None:
    assert source_of(scope(f"192.0.2.7 40000 8000 {secret}")) == "192.0.2.7"


@pytest.mark.parametrize(
    "told",
    ["192.0.2.7", "192.0.2.7 40000 8000 ", "192.0.2.7 40000 8000 guess", " ", "", "192.0.2.7 40000 8000 caf\xe9"],
)
def test_without_the_secret_it_is_the_address_of_the_connection(told: str) -> None:
    """Without the secret, the address of the connection counts.

    A client that reaches the replica's own port cannot name another one.
    """
    assert source_of(scope(told)) == "127.0.0.1"


def test_no_secret_is_shown_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no secret is set, as on a user's own cluster, a header with an empty secret is not believed."""
    monkeypatch.delenv(SECRET_VARIABLE)
    assert source_of(scope("192.0.2.7 40000 8000 ", client=("198.51.100.1", 1))) == "198.51.100.1"


def test_a_client_without_an_address_is_unknown() -> None:
    assert source_of(scope(client=None)) == UNKNOWN_ADDRESS


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
    ],
)
def test_ipv6_addresses_count_by_their_network(address: str, group: str) -> None:
    assert source_of(scope(client=(address, 1))) == group
