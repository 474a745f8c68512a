"""The client address of a request, for limits per client."""

import hmac
import ipaddress
import os
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from deployments.http.haproxy_rules import SECRET_VARIABLE, SOURCE_HEADER

_SOURCE_HEADER: Final = SOURCE_HEADER.encode()

UNKNOWN_ADDRESS: Final = "unknown"
"""The address of a client on a Unix socket, or of a test's scope without one."""

_IPV6_NETWORK_BITS: Final = 64
"""An IPv6 client has a network of this length to itself, so its addresses count as one."""


@dataclass(frozen=True, slots=True)
class PeerConnection:
    """A client's connection to HAProxy."""

    address: str
    client_port: int
    port: int  # HAProxy's port


def source_of(scope: Scope) -> str:
    """Return the client's address; for IPv6, its /64 network.

    Behind HAProxy this is the address that HAProxy saw. A request that comes straight to a replica's port cannot claim
    another address: HAProxy proves itself by a secret, and for all others the address of the connection counts.

    Args:
        scope: ASGI scope of an HTTP request.
    """
    connection, client = connection_of(scope), scope.get("client")
    return _group(connection.address if connection else client[0] if client else UNKNOWN_ADDRESS)


def connection_of(scope: Scope) -> PeerConnection | None:
    """Return the client's connection to HAProxy; None for a request that did not come through HAProxy."""
    secret = os.environ.get(SECRET_VARIABLE, "").encode()
    for name, value in scope["headers"]:
        if name == _SOURCE_HEADER and secret:
            connection, _, secret_sent = value.rpartition(b" ")
            if hmac.compare_digest(secret_sent, secret):
                address, client_port, port = connection.split()
                return PeerConnection(address.decode("ascii"), int(client_port), int(port))
    return None


def _group(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), _IPV6_NETWORK_BITS), strict=False))
