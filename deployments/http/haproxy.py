"""Changes to the HAProxy configuration that Ray Serve writes; run by haproxy.sh at each start and reload of HAProxy.

Serve's template has no setting for any of these changes. haproxy_rules.py has the rules for requests. Both import only
a few modules of the standard library, since each reload waits for this program.
"""

import os
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from deployments.http.haproxy_rules import ADDRESS_LIMIT_VARIABLE, UNAVAILABLE, problem_page, request_rules

BINARY_VARIABLE: Final = "DARKROOM_HAPROXY"
"""Environment variable with the path of HAProxy itself."""

PYTHON_VARIABLE: Final = "DARKROOM_PYTHON"
"""Environment variable with the path of the interpreter that haproxy.sh calls."""

HOST_VARIABLE: Final = "DARKROOM_HTTP_HOST"
"""Environment variable with `http_options.host`: for `::`, Serve writes `*`, which is IPv4 alone."""

MAX_CONNECTIONS_PER_ADDRESS: Final = 2_048
"""Default limit on connections of one address: half of HAProxy's own default limit."""

HALF_CLOSE_VARIABLE: Final = "DARKROOM_HALF_CLOSE"
"""Environment variable, 1 if replicas check half-closed connections themselves (half_closed.py)."""

HEADERS_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_MS: Final = 200

_BUFFER_BYTES: Final = 32_768
"""HAProxy can refuse large headers in JSON only if they fit into its buffer, so this exceeds `MAX_HEADERS_BYTES`."""

_MAX_HEADERS: Final = 512
"""Limit on the number of headers of a request; HAProxy's default is 101."""

_FILES_BESIDE_CONNECTIONS: Final = 200
"""Files that HAProxy opens beside two for each connection: its listening sockets, health checks, log."""

_LUA: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "answer_and_close.lua")
_MARK: Final = "# Changed by Darkroom: deployments/http/haproxy.py\n"

# HAProxy 2.8 answers a request that it cannot parse with its own HTML. The only possible replacement is an empty page
# (https://github.com/haproxy/haproxy/issues/3032, fixed in 3.3). HAProxy uses these statuses for nothing else. So it is
# told to parse as much as it can (`accept-invalid-http-request`), and rules refuse invalid requests in JSON.
_UNPARSED: Final = (400, 405, 408, 413, 422, 501)


class UnknownTemplate(Exception):
    """Serve's configuration differs from the one that this module was made for."""


def edited(text: str, environment: Mapping[str, str], cores: int, files: int) -> str:
    """Return the configuration with Darkroom's changes.

    Args:
        text: the configuration as Serve has written it.
        environment: environment variables of HAProxy.
        cores: number of cores that HAProxy may use.
        files: number of files that HAProxy may open.

    Raises:
        UnknownTemplate: a line to be changed is missing.
        ValueError: the limit of connections is no number.
    """
    limit = _limit(environment.get(ADDRESS_LIMIT_VARIABLE) or str(MAX_CONNECTIONS_PER_ADDRESS))
    text = _fitted(text, cores, files)
    text = _on_loopback(text)
    text = _with_pages(text)
    if environment.get(HALF_CLOSE_VARIABLE) == "1":
        text = _changed(text, r"^ *option abortonclose\n", "")
    text = _changed(text, r"^global$", f'{{0}}\n    lua-load-per-thread "{_LUA}"', literal=True)
    text = _with_quick_retries(text)
    text = _reached_by_ipv6(text, environment.get(HOST_VARIABLE, ""))
    rules = _indented(request_rules(limit))
    return _MARK + _changed(text, r"^frontend http_frontend\n *bind .*$", "{0}\n" + rules, literal=True)


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{ADDRESS_LIMIT_VARIABLE}={text} is not a whole number of connections; write 0 for no limit")
    return int(text)


def _fitted(text: str, cores: int, files: int) -> str:
    """Limit threads to the cores, and connections to the files HAProxy may open; with more it does not start."""
    threads = min(_number(text, "nbthread"), cores)
    connections = _number(text, "maxconn")
    if files != resource.RLIM_INFINITY:
        connections = min(connections, (files - _FILES_BESIDE_CONNECTIONS) // 2)
    text = _changed(text, r"^( *)nbthread .*$", rf"\g<1>nbthread {threads}")
    text = _changed(text, r"^( *)maxconn .*$", rf"\g<1>maxconn {connections}")
    buffer = max(_number(text, "tune.bufsize"), _BUFFER_BYTES)
    sizes = rf"\g<1>tune.bufsize {buffer}\n\g<1>tune.http.maxhdr {_MAX_HEADERS}"
    return _changed(text, r"^( *)tune\.bufsize .*$", sizes)


def _on_loopback(text: str) -> str:
    """Close HAProxy's pages of statistics and metrics to the network, and its socket to other users."""
    text = _changed(text, r"^( *stats socket .* mode )666 ", r"\g<1>600 ")
    text = _changed(text, r"^(frontend prometheus\n *bind )\*?:", r"\g<1>127.0.0.1:")
    return _changed(text, r"^(listen stats\n *bind )\*?:", r"\g<1>127.0.0.1:")


def _with_pages(text: str) -> str:
    """Use problem documents and fitting statuses for HAProxy's own answers; Serve has plain text."""
    text = _changed(text, r"^ *errorfile 50[234] .*\n", "")
    failed = "the balancer could not handle the request"
    gone = "the replica that had the request has ended; it may be sent again, as it changes nothing"
    lines = [
        f"timeout http-request {HEADERS_TIMEOUT_S}s",  # a byte a minute would hold a connection for weeks
        *(f"errorfile {status} /dev/null" for status in _UNPARSED),
        "timeout client-fin 2s",  # else a connection that ends with an empty page stays open for `timeout client`
        f"http-error status 500 {problem_page(500, 'Internal server error', failed)}",
        f"http-error status 502 {problem_page(502, 'Bad gateway', gone)}",
        f"http-error status 503 {UNAVAILABLE}",
        f"http-error status 504 {problem_page(504, 'Gateway timeout', 'the replica has not answered in time')}",
    ]
    text = _changed(text, r"^defaults$", "{0}\n" + _indented(lines), literal=True)
    # While Serve knows no application it writes no use_backend, and HAProxy would answer every path with 404.
    absent = problem_page(404, "Not found", "no application is served under this path")
    status, page = (404, absent) if re.search(r"^ *use_backend ", text, re.MULTILINE) else (503, UNAVAILABLE)
    text = _changed(text, _in_plain_text(404), f"http-request return status {status} {page}", literal=True)
    return re.sub(_in_plain_text(503), lambda _: f"http-request return status 503 {UNAVAILABLE}", text)


def _with_quick_retries(text: str) -> str:
    """Retry quickly at another replica when one refuses connections, as a killed replica does.

    HAProxy waits for `timeout connect` first, 1 s at most. A replica on this machine accepts a connection at once. If
    any replica is on another node, Serve's 5 s stay.
    """
    hosts = set(re.findall(r"^ *server \S+ (\S+):\d+ ", text, re.MULTILINE))
    if not hosts <= {"127.0.0.1", "[::1]", "localhost"}:
        return text
    return _changed(text, r"^( *)timeout connect .*$", rf"\g<1>timeout connect {CONNECT_TIMEOUT_MS}ms")


def _in_plain_text(status: int) -> str:
    return rf'http-request return status {status} content-type text/plain (?:lf-)?string "[^"]*"'


def _reached_by_ipv6(text: str, host: str) -> str:
    """Listen on `host` by IPv6; replicas and Serve's fallback proxy are reached there too."""
    if host == "::":
        return _changed(text, r"^(frontend http_frontend\n *bind )\*(:\d+)$", r"\g<1>[::]\g<2> v4v6")
    if ":" in host:
        text = _changed(text, r"^(frontend http_frontend\n *bind ).*(:\d+)$", rf"\g<1>[{host}]\g<2>")
        return re.sub(r"^( *server \S+) 127\.0\.0\.1(:\d+)", rf"\g<1> [{host}]\g<2>", text, flags=re.MULTILINE)
    return text


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _number(text: str, name: str) -> int:
    found = re.search(rf"^ *{re.escape(name)} +(\d+)$", text, re.MULTILINE)
    if not found:
        raise UnknownTemplate(f"HAProxy's configuration has no line {name}")
    return int(found[1])


def _changed(text: str, pattern: str, replacement: str, *, literal: bool = False) -> str:
    """Replace all matches of a pattern; in a literal replacement `{0}` stands for the matched text."""
    by = (lambda found: replacement.replace("{0}", found[0])) if literal else replacement
    text, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    if not count:
        raise UnknownTemplate(f"HAProxy's configuration has nothing like {pattern}")
    return text


def main(arguments: Sequence[str]) -> None:
    """Edit the file named by `-f` once, then replace this process with HAProxy."""
    path = arguments[arguments.index("-f") + 1]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not text.startswith(_MARK):
        try:
            _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
            text = edited(text, os.environ, len(os.sched_getaffinity(0)), files)
        except ValueError as error:
            sys.exit(str(error))
        except UnknownTemplate as error:
            sys.exit(f"{error}; this version of Ray Serve writes another file than deployments/http/haproxy.py changes")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    _start_watchdog()
    binary = os.environ[BINARY_VARIABLE]
    os.execv(binary, [binary, *arguments])  # noqa: S606  HAProxy itself


def _start_watchdog() -> None:
    """Start the watchdog that kills HAProxy (this process, after exec) if it is stopped by SIGSTOP."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    program = (
        "import sys; sys.path.append(sys.argv[1]); from deployments.watchdog_process import main; main(*sys.argv[2:])"
    )
    command = [sys.executable, "-I", "-S", "-c", program, root, "HAProxy", str(os.getpid())]
    os.posix_spawn(sys.executable, command, os.environ)
