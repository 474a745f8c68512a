"""Free ports for a private service, beside any other one on this machine."""

import contextlib
import random
import socket


def free_port() -> int:
    """Find a free TCP port outside the range from which the kernel assigns ports."""
    for port in random.sample(range(20_000, 30_000), 100):  # Linux gives from 32768 on, Serve's replicas from 30000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("a hundred ports were tried, and all of them are taken")


def apart() -> dict[str, str]:
    """Return environment variables that keep a service's HAProxy off the ports of any other service."""
    return {
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }
