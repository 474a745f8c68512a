"""Checks of a configuration's host, ports, names and prefixes: Serve itself accepts any text and any number."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

DEFAULT_HOST: Final = "0.0.0.0"  # noqa: S104  Serve's own
DEFAULT_PORT: Final = 8000
DEFAULT_NAME: Final = "default"

SERVED_PATHS: Final = ("/predict", "/info", "/stats", "/healthz", "/openapi.json")
"""Paths of each application of Darkroom, below its prefix."""

IMPORT_PATH: Final = "deployments.app:build_app"

IMPORT_PATHS: Final = (IMPORT_PATH, IMPORT_PATH.replace(":", "."))
"""Spellings of `IMPORT_PATH` that Ray accepts."""

OTHER_PORTS: Final = {
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": (8500, "Serve's fallback proxy"),
    "RAY_SERVE_HAPROXY_STATS_PORT": (8404, "HAProxy's statistics"),
    "RAY_SERVE_HAPROXY_METRICS_PORT": (9101, "HAProxy's metrics"),
}
"""Fixed ports beside the service's own, by variable: the default, and the program that listens there."""

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PREFIX: Final = re.compile(r"/|(/[A-Za-z0-9._~-]+)+")


def address_faults(document: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the faults of host, ports, names and prefixes: the path of a key, and the fault."""
    options = document.get("http_options")
    options = options if isinstance(options, dict) else {}
    host, port = options.get("host", DEFAULT_HOST), options.get("port", DEFAULT_PORT)
    if says := _host_fault(host):
        yield "http_options.host", says
    if type(port) is not int or not 1 <= port <= 65535:
        yield "http_options.port", f"{_shown(port)} is no port; write a number from 1 to 65535, e.g. {DEFAULT_PORT}"
    yield from _other_port_faults(port, environment)
    yield from _hiding_faults(document["applications"])
    for number, application in enumerate(document["applications"]):
        if not isinstance(application, dict):
            continue
        if says := _prefix_fault(application.get("route_prefix", "/")):
            yield f"applications.{number}.route_prefix", says
        name = application.get("name", "default")
        if isinstance(name, str) and not _NAME.fullmatch(name):
            what = "letters, digits and . _ -, as files of logs are named for it"
            yield f"applications.{number}.name", f"{_shown(name)} is no name; write {what}"


def _hiding_faults(applications: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield prefixes that are a path of another application: Serve gives a request to the longest prefix."""
    prefixes = [each.get("route_prefix", "/") if isinstance(each, dict) else None for each in applications]
    taken = {
        f"{prefix.rstrip('/')}{path}": (number, path)
        for number, prefix in enumerate(prefixes)
        if isinstance(prefix, str) and applications[number].get("import_path") in IMPORT_PATHS
        for path in SERVED_PATHS
    }
    for number, prefix in enumerate(prefixes):
        if isinstance(prefix, str) and prefix in taken:
            other, path = taken[prefix]
            says = f"{_shown(prefix)} would take {path} from applications.{other}; write another, e.g. /models{path}"
            yield f"applications.{number}.route_prefix", says


def other_ports(environment: Mapping[str, str]) -> dict[str, int | None]:
    """Return the fixed ports beside the service's own, by variable; None if the variable holds no port number."""
    if environment.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        return {}
    found = {name: environment.get(name, str(default)) for name, (default, _) in OTHER_PORTS.items()}
    return {name: _port(text) for name, text in found.items()}


def _other_port_faults(port: object, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    taken = {port: "http_options.port"} if isinstance(port, int) else {}
    for name, other in other_ports(environment).items():
        if other is None:
            yield name, f"{_shown(environment[name])} is no port; write a number from 1 to 65535"
        elif other in taken:
            default, who = OTHER_PORTS[name]
            instead = f"{name}={_free(default, taken)} in serve.env"
            yield taken[other], f"{other} is the port of {who} as well; write another one, or {instead}"
        else:
            taken[other] = name


def _free(port: int, taken: Mapping[Any, str]) -> int:
    return next(other for other in range(port, port + 10) if other not in taken)


def _port(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= 5
    return int(text) if is_number and 1 <= int(text) <= 65535 else None


def _host_fault(host: object) -> str | None:
    if not isinstance(host, str):
        return f"{_shown(host)} is no address; write one in quotes, e.g. 127.0.0.1 for this machine alone"
    try:
        ipaddress.ip_address(host)
        return None
    except ValueError:
        labels = host.removesuffix(".").split(".")
    if len(host) < 254 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal():
        return None
    return (
        f"{_shown(host)} is neither an address nor the name of a machine; write one without http:// and port, e.g. "
        "127.0.0.1 for this machine alone, 0.0.0.0 or '::' for all that it has"
    )


def _prefix_fault(prefix: object) -> str | None:
    if isinstance(prefix, str) and _PREFIX.fullmatch(prefix) and not re.search(r"/(-|\.\.?)(/|$)", prefix):
        return None
    if prefix is None:
        return "null leaves the application without an address; write /, or remove the key"
    return (
        f"{_shown(prefix)} is no path; write / or e.g. /classify: a slash in front and none at the end, letters, "
        "digits and . _ ~ - between; /- is Serve's own"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
