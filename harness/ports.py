"""Ports for a service of one's own, beside any other on this machine."""

import contextlib
import random
import socket


def free_port() -> int:
    """A TCP port that nothing listens on, of those that nobody gets from the kernel who does not ask for it."""
    for port in random.sample(range(20_000, 30_000), 100):  # Linux gives from 32768 on, Serve's replicas from 30000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("a hundred ports were tried, and all of them are taken")


def apart() -> dict[str, str]:
    """Environment of a service: keeps its HAProxy off the ports of any other."""
    return {
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }
