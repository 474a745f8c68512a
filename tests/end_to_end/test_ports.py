"""Tests of the ports of a running service that the network can reach."""

import ipaddress
import re
import socket
from collections.abc import Iterator

import grpc
import psutil
import pytest

from harness.photographs import jpeg, photograph
from harness.repository import ROOT
from tests.support.running_service import Service
from tests.support.waiting import until

Opened = tuple[str, str, str, int]  # process, protocol, address, port


def _sockets(service: Service) -> Iterator[Opened]:
    """Return all sockets on which the service's processes accept data from others."""
    for process in service.processes():
        try:
            name, connections = process.name(), process.net_connections("inet")
        except psutil.NoSuchProcess:  # HAProxy is restarted whenever a replica comes or goes
            continue
        for connection in connections:
            protocol = "tcp" if connection.type == socket.SOCK_STREAM else "udp"
            if not connection.raddr and (protocol == "udp" or connection.status == psutil.CONN_LISTEN):
                yield name.partition(":darkroom")[0], protocol, connection.laddr.ip, connection.laddr.port


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _documented() -> set[tuple[str, str]]:
    """Return process and protocol of each line of the table in SECURITY.md."""
    return set(re.findall(r"(?m)^\| `([^`]+)` \| (tcp|udp) \|", (ROOT / "SECURITY.md").read_text()))


@pytest.fixture(scope="module")
def opened_sockets(service: Service) -> set[Opened]:
    """Return the open sockets after some requests, when all processes that answer them are running."""
    own = {
        int(service.url.rpartition(":")[2]),
        int(service.environment["RAY_SERVE_HAPROXY_STATS_PORT"]),
        int(service.environment["RAY_SERVE_HAPROXY_METRICS_PORT"]),
    }

    def settled() -> set[Opened] | None:
        service.post(jpeg(photograph("cat"))).raise_for_status()
        found = set(_sockets(service))
        return found if own <= {port for _, _, _, port in found} else None

    found = until(settled)
    assert found is not None
    return found


def test_the_network_reaches_only_what_is_documented(opened_sockets: set[Opened]) -> None:
    """The network reaches only documented ports. In the shipped configuration the service itself is on loopback."""
    outside = {(name, protocol) for name, protocol, address, _ in opened_sockets if not _is_loopback(address)}
    assert outside <= _documented()


def test_what_is_on_loopback_is_found_at_all(opened_sockets: set[Opened]) -> None:
    """The ports on loopback are found; otherwise the test above could not fail."""
    inside = {name for name, _, address, _ in opened_sockets if _is_loopback(address)}
    assert {"haproxy", "raylet", "gcs_server", "ray::ServeReplica"} <= inside


def test_the_port_that_is_left_open_asks_for_a_token(opened_sockets: set[Opened]) -> None:
    """The one open port requires a token, because it accepts pickled calls, which can run any code."""
    (port,) = [
        port
        for name, protocol, address, port in opened_sockets
        if (name, protocol) == ("ray::ServeReplica", "tcp") and not _is_loopback(address)
    ]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=30)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
