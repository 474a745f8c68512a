"""Checks from one node of a cluster whether others can be reached on the ports of the service.

A port on which no program listens yet is open: its node refuses the connection. A firewall that refuses in the same way
(`reject with tcp reset`) cannot be told from that; one that drops packets, or forbids them, can.
"""

import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from deployments.checks.address import DEFAULT_PORT

REPLICA_PORTS: Final = ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", 30_000)
"""First port on which replicas answer HAProxy: its variable, and Serve's default. Each replica takes the next one."""

TRIED_REPLICA_PORTS: Final = 8

_LAST_PORT: Final = 65_535
_WAITS_S: Final = 3.0
"""Seconds after which a port counts as closed: a firewall drops packets without a word."""


def needed_ports(document: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Sequence[int]]:
    """Return ports of a node with replicas, by who needs them and by their setting.

    Args:
        document: content of a sound configuration.
        environment: environment variables of the service.

    Raises:
        ValueError: a variable is no port.
    """
    variable, default = REPLICA_PORTS
    written = environment.get(variable) or str(default)
    if not written.isdecimal() or not 0 < int(written) <= _LAST_PORT - TRIED_REPLICA_PORTS:
        raise ValueError(f"{variable}={written} is no port for a first replica; write one from 1 to 65000")
    first = int(written)
    options = document.get("http_options") or {}
    return {
        "clients need it (http_options.port)": [options.get("port", DEFAULT_PORT)],
        f"HAProxy on other nodes needs it for replicas ({variable})": range(first, first + TRIED_REPLICA_PORTS),
    }


def closed_ports(addresses: Sequence[str], needed: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield a sentence for each node and purpose whose ports cannot be reached from this machine.

    Args:
        addresses: IP addresses of the nodes.
        needed: ports, by who needs them.
    """
    with ThreadPoolExecutor(32) as pool:
        for address in addresses:
            for purpose, ports in needed.items():
                reached = pool.map(_is_open, [address] * len(ports), ports)
                closed = [str(port) for port, is_open in zip(ports, reached, strict=True) if not is_open]
                if closed:
                    yield (
                        f"node {address}: port {', '.join(closed)} is closed to this machine; {purpose}; open it in "
                        "the firewall between the nodes"
                    )


def _is_open(address: str, port: int) -> bool:
    """Return whether packets reach a port: a program answers, or the node itself refuses."""
    try:
        socket.create_connection((address, port), timeout=_WAITS_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
