"""Checks before a start: the address and ports of the service, and the limit on open files."""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.checks.address import DEFAULT_HOST, DEFAULT_NAME, DEFAULT_PORT, other_ports
from deployments.checks.configuration import check_configuration as check_configuration
from deployments.checks.configuration import read_document as read_document
from deployments.checks.own_faults import IMPORT_PATHS, own_applications
from deployments.checks.placement import placement_fault
from deployments.checks.start_error import StartError as StartError
from deployments.local.env_file import read_env as read_env

HAPROXY_FILES = 10_300
"""Open files that HAProxy needs. With Ray's limit of 4,096 connections it asks for 10,276: two each, and some more."""


@dataclass(frozen=True)
class Endpoint:
    """Address at which an application listens.

    Attributes:
        application: name of the application.
        is_darkroom: whether the application is Darkroom, and so has GET /info.
    """

    host: str
    port: int
    route_prefix: str
    application: str = DEFAULT_NAME
    is_darkroom: bool = True

    @property
    def url(self) -> str:
        """URL of the application for a client on this machine, without a final slash."""
        return f"{self.origin}{self.route_prefix.rstrip('/')}"

    @property
    def origin(self) -> str:
        """URL of all applications for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def read_endpoint(config: Path) -> Endpoint:
    """Read the address of the first application, with Serve's defaults.

    Raises:
        StartError: the file is missing, or is no configuration for Serve.
    """
    return read_endpoints(config)[0]


def read_endpoints(config: Path) -> list[Endpoint]:
    """Read the addresses of all applications, with Serve's defaults; there is at least one.

    Raises:
        StartError: the file is missing, or is no configuration for Serve.
    """
    if config.is_fifo() or config.is_char_device() or config.is_socket():
        raise StartError(f"{config} is no regular file, and it is read more than once: write one")
    document = read_document(config)
    try:
        options = document.get("http_options") or {}
        host, port = options.get("host", DEFAULT_HOST), int(options.get("port", DEFAULT_PORT))
        return [
            Endpoint(
                host,
                port,
                str(each.get("route_prefix") or "/"),
                str(each.get("name", DEFAULT_NAME)),
                each.get("import_path") in IMPORT_PATHS,
            )
            for each in document["applications"]
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise StartError(f"{config} is not a configuration that `serve run` takes: {error}") from error


def asking_for_gpu(config: Path) -> set[str]:
    """Return the names of Darkroom's applications in the file that need a GPU: `device: cuda`."""
    return {
        str(application.get("name", DEFAULT_NAME))
        for _, application in own_applications(read_document(config))
        if ((application.get("args") or {}).get("pipeline") or {}).get("device") == "cuda"
    }


def check_placement(config: Path) -> None:
    """Check that the CPUs of this machine suffice for the least replicas of all applications.

    The Ray of a local run never gets another node, so a replica that cannot be placed would wait for ever.

    Raises:
        StartError: they do not suffice; the message says what to write.
    """
    may_have_gpu = any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists()  # the latter: WSL
    if fault := placement_fault(read_document(config), os.cpu_count() or 1, may_have_gpu=may_have_gpu):
        raise StartError(f"{config}: {fault}")


def check_open_files(environment: Mapping[str, str]) -> None:
    """Check that HAProxy may open enough files; otherwise it does not start, and Serve retries endlessly.

    Raises:
        StartError: the limit is too low; the message says how to raise it.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" and 0 <= most < HAPROXY_FILES:
        raise StartError(
            f"a process may have {most} files open here, and HAProxy does not start with fewer than {HAPROXY_FILES}: "
            f"allow more (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile=65536 of a container), or set "
            "RAY_SERVE_ENABLE_HA_PROXY=0 and RAY_SERVE_THROUGHPUT_OPTIMIZED=0"
        )


def needed_ports(endpoint: Endpoint, environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return (host, port) of each fixed port that the run needs.

    All other ports may change: the dashboard (from 8265) and the replicas (from 30000) try the next ones, and the rest
    ask the kernel for a free port.
    """
    ports = [(endpoint.host, endpoint.port)]
    if endpoint.host == "::":  # listens on IPv4 too, where a conflict would go unnoticed
        ports.append((DEFAULT_HOST, endpoint.port))
    for name, port in other_ports(environment).items():
        if port is None:
            raise StartError(f"{name}: it is no port; write a number from 1 to 65535")
        # HAProxy opens its own two on loopback (loopback.py), whatever `http_options` says.
        ports.append(("127.0.0.1" if "HAPROXY" in name else endpoint.host, port))
    return ports
