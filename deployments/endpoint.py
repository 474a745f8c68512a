"""What a start reads before anything runs: serve.env, where serve_config.yaml has the service listen, what it says."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployments.faults import own_applications, own_faults


class StartError(Exception):
    """Darkroom cannot start, or has failed to; the message says why."""


HAPROXY_FILES = 10_300
"""With the 4,096 connections that Ray lets it have it asks for 10,276: two files each, and some for itself."""


@dataclass(frozen=True)
class Endpoint:
    """Where the configuration lets the service listen."""

    host: str
    port: int
    route_prefix: str

    @property
    def url(self) -> str:
        """The address for a client on this machine, without a slash at its end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.route_prefix.rstrip('/')}"


def read_env(path: Path) -> dict[str, str]:
    """Return the NAME=value lines of a file; none where there is no file.

    Raises:
        StartError: a line is neither blank, nor a comment, nor NAME=value.
    """
    settings = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise StartError(f"{path}, line {number}: {line.strip()!r} is not NAME=value")
        settings[name.strip()] = value.strip()
    return settings


def read_document(config: Path) -> dict[str, Any]:
    """Read a configuration of Serve's, of which only the outline is looked at.

    Raises:
        StartError: there is no such file, or it is no configuration of Serve.
    """
    try:
        document = yaml.safe_load(config.read_text())
    except OSError as error:
        raise StartError(f"cannot read {config}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or not applications:
        raise StartError(f"{config} is not a configuration that `serve run` takes: it lists no applications")
    return dict(document)


def read_endpoint(config: Path) -> Endpoint:
    """Read where the first application listens; what the file leaves out is Serve's default.

    Raises:
        StartError: there is no such file, or it is no configuration of Serve.
    """
    document = read_document(config)
    try:
        options = document.get("http_options") or {}
        prefix = document["applications"][0].get("route_prefix", "/")
        return Endpoint(options.get("host", "0.0.0.0"), int(options.get("port", 8000)), prefix)  # noqa: S104  Serve's
    except (AttributeError, TypeError, ValueError) as error:
        raise StartError(f"{config} is not a configuration that `serve run` takes: {error}") from error


def check_configuration(config: Path, environment: Mapping[str, str]) -> None:
    """Check what is Darkroom's own in the file and the environment, in a moment; Serve would need half a minute.

    Raises:
        StartError: what is wrong, and what to write instead.
    """
    if faults := own_faults(read_document(config), environment):
        raise StartError(f"{config}: {'; '.join(faults)}")


def asks_for_gpu(config: Path) -> bool:
    """Whether an application of Darkroom's in the file is written for a GPU alone: `device: cuda`."""
    configs = [application.get("args") or {} for _, application in own_applications(read_document(config))]
    return any((args.get("pipeline") or {}).get("device") == "cuda" for args in configs)


def check_open_files(environment: Mapping[str, str]) -> None:
    """Check that HAProxy may open what it asks for; it would not start, and Serve would try again and again.

    Raises:
        StartError: it may not, and how to allow it.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" and 0 <= most < HAPROXY_FILES:
        raise StartError(
            f"a process may have {most} files open here, and HAProxy does not start with fewer than {HAPROXY_FILES}: "
            f"allow more (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile=65536 of a container), or set "
            "RAY_SERVE_ENABLE_HA_PROXY=0 and RAY_SERVE_THROUGHPUT_OPTIMIZED=0"
        )


def needed_ports(endpoint: Endpoint, environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return (host, port) of all that listens on a port of its own choice and cannot evade.

    Everything else evades: the dashboard (8265) and the replicas (30000) count upwards, the rest asks the kernel.
    """
    ports = [(endpoint.host, endpoint.port)]
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        ports.append((endpoint.host, int(environment.get("RAY_SERVE_FALLBACK_PROXY_HTTP_PORT", "8500"))))
        # HAProxy opens these two on loopback (loopback.py), whatever `http_options` says.
        ports.append(("127.0.0.1", int(environment.get("RAY_SERVE_HAPROXY_STATS_PORT", "8404"))))
        ports.append(("127.0.0.1", int(environment.get("RAY_SERVE_HAPROXY_METRICS_PORT", "9101"))))
    return ports
