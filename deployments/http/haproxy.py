"""Changes to the HAProxy configuration that Ray Serve writes; run by haproxy.sh at each start and reload of HAProxy.

Serve's template has no setting for any of these changes. Imports only a few modules of the standard library, since each
reload waits for this program.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Final

BINARY_VARIABLE: Final = "DARKROOM_HAPROXY"
"""Environment variable with the path of HAProxy itself."""

PYTHON_VARIABLE: Final = "DARKROOM_PYTHON"
"""Environment variable with the path of the interpreter that haproxy.sh calls."""

SECRET_VARIABLE: Final = "DARKROOM_PROXY_SECRET"  # noqa: S105  the name of a variable
"""Environment variable with the secret that HAProxy and the replicas share; the launcher makes a new one each run."""

HOST_VARIABLE: Final = "DARKROOM_HTTP_HOST"
"""Environment variable with `http_options.host`: for `::`, Serve writes `*`, which is IPv4 alone."""

ADDRESS_LIMIT_VARIABLE: Final = "DARKROOM_MAX_CONNECTIONS_PER_ADDRESS"
"""Environment variable with the connections that one address may have open; 0 for no limit."""

ADDRESS_LIMIT: Final = 2_048
"""Default limit on connections of one address: half of HAProxy's own default limit."""

HALF_CLOSE_VARIABLE: Final = "DARKROOM_HALF_CLOSE"
"""Environment variable, 1 if replicas check half-closed connections themselves (half_closed.py)."""

SOURCE_HEADER: Final = "x-darkroom-source"
"""Header that HAProxy sets on every request; replaces one of this name from a client.

`ADDRESS PORT OWN_PORT SECRET`: the client's address and port, HAProxy's own port, and the shared secret.
"""

CONTROL_HEADERS: Final = "|".join(
    (
        "x-request-disconnect-disabled",
        "x-request-timeout-seconds",
        "x[-_]session[-_]id",
        "serve[-_]multiplexed[-_]model[-_]id",
        "x-serve-router-.*",
        "x-serve-reason",
        "x-body-truncated",
    )
)
"""Names of headers by which parts of Ray Serve control each other; clients must not send them."""

REQUEST_ID: Final = r"[A-Za-z0-9._~:;,/+=@-]{1,128}"
"""Form of an X-Request-ID that a client may send; any other is replaced by a new one."""

CLOSE_HEADER: Final = "x-darkroom-close"
"""Header that tells HAProxy to close the connection, as the request's body has not been read to its end."""

HEADERS_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_MS: Final = 200
HEADERS_BYTES: Final = 16_384
URL_BYTES: Final = 8_192

_BUFFER_BYTES: Final = 32_768
"""HAProxy can refuse large headers in JSON only if they fit into its buffer, so this exceeds `HEADERS_BYTES`."""

_HEADERS: Final = 512
"""Limit on the number of headers of a request; HAProxy's default is 101."""

_CLOSING_ANSWER_BYTES: Final = 16_384
"""Largest answer that HAProxy sends as its own: the answer has to fit into its buffer beside the headers."""

_OTHER_FILES: Final = 200
"""Files that HAProxy opens beside two for each connection: its listening sockets, health checks, log."""

_LUA: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "answer_and_close.lua")
_MARK: Final = "# Changed by Darkroom: deployments/http/haproxy.py\n"

_MALFORMED_URL: Final = r"'[^!-~]|#'"
_MALFORMED_HEADER: Final = (
    r"""'(?m)^[^:\n]*[\x00-\x09\x0b\x0c\x0e-\x20"(),/;<=>?@\[\\\]{}\x7f-\xff]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'"""
)
"""Header whose name is no token of RFC 9110, or whose value holds a control character."""

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
    limit = _limit(environment.get(ADDRESS_LIMIT_VARIABLE) or str(ADDRESS_LIMIT))
    text = _fitted(text, cores, files)
    text = _on_loopback(text)
    text = _with_pages(text)
    if environment.get(HALF_CLOSE_VARIABLE) == "1":
        text = _changed(text, r"^ *option abortonclose\n", "")
    text = _changed(text, r"^global$", f'{{0}}\n    lua-load-per-thread "{_LUA}"', literal=True)
    text = _with_quick_retries(text)
    text = _reached_by_ipv6(text, environment.get(HOST_VARIABLE, ""))
    return _MARK + _with_rules(text, limit)


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{ADDRESS_LIMIT_VARIABLE}={text} is not a whole number of connections; write 0 for no limit")
    return int(text)


def _fitted(text: str, cores: int, files: int) -> str:
    """Limit threads to the cores, and connections to the files HAProxy may open; with more it does not start."""
    threads = min(_number(text, "nbthread"), cores)
    connections = _number(text, "maxconn")
    if files != resource.RLIM_INFINITY:
        connections = min(connections, (files - _OTHER_FILES) // 2)
    text = _changed(text, r"^( *)nbthread .*$", rf"\g<1>nbthread {threads}")
    text = _changed(text, r"^( *)maxconn .*$", rf"\g<1>maxconn {connections}")
    buffer = max(_number(text, "tune.bufsize"), _BUFFER_BYTES)
    sizes = rf"\g<1>tune.bufsize {buffer}\n\g<1>tune.http.maxhdr {_HEADERS}"
    return _changed(text, r"^( *)tune\.bufsize .*$", sizes)


def _on_loopback(text: str) -> str:
    """Close HAProxy's pages of statistics and metrics to the network, and its socket to other users."""
    text = _changed(text, r"^( *stats socket .* mode )666 ", r"\g<1>600 ")
    text = _changed(text, r"^(frontend prometheus\n *bind )\*?:", r"\g<1>127.0.0.1:")
    return _changed(text, r"^(listen stats\n *bind )\*?:", r"\g<1>127.0.0.1:")


def _with_pages(text: str) -> str:
    """Use problem documents and fitting statuses for HAProxy's own answers; Serve has plain text."""
    text = _changed(text, r"^ *errorfile 50[234] .*\n", "")
    gone = "the replica that had the request has ended; it may be sent again, as it changes nothing"
    lines = [
        f"timeout http-request {HEADERS_TIMEOUT_S}s",  # a byte a minute would hold a connection for weeks
        *(f"errorfile {status} /dev/null" for status in _UNPARSED),
        "timeout client-fin 2s",  # else a connection that ends with an empty page stays open for `timeout client`
        f"http-error status 500 {_page(500, 'Internal server error', 'the balancer could not handle the request')}",
        f"http-error status 502 {_page(502, 'Bad gateway', gone)}",
        f"http-error status 503 {_UNAVAILABLE}",
        f"http-error status 504 {_page(504, 'Gateway timeout', 'the replica has not answered in time')}",
    ]
    text = _changed(text, r"^defaults$", "{0}\n" + _indented(lines), literal=True)
    # While Serve knows no application it writes no use_backend, and HAProxy would answer every path with 404.
    absent = _page(404, "Not found", "no application is served under this path")
    status, page = (404, absent) if re.search(r"^ *use_backend ", text, re.MULTILINE) else (503, _UNAVAILABLE)
    text = _changed(text, _in_plain_text(404), f"http-request return status {status} {page}", literal=True)
    return re.sub(_in_plain_text(503), lambda _: f"http-request return status 503 {_UNAVAILABLE}", text)


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


def _with_rules(text: str, address_limit: int) -> str:
    """Rules for every request, before it is decided where it goes."""
    bounds, too_many = _address_rules(address_limit) if address_limit else ([], [])
    long_url = _page(414, "URI too long", f"the limit is {URL_BYTES} bytes")
    large = _page(431, "Request header fields too large", f"the limit is {HEADERS_BYTES} bytes of headers")
    malformed = _page(400, "Bad request", "a character that HTTP does not allow stands in the URL or in a header")
    version = _page(505, "HTTP version not supported", "this service speaks HTTP/1.1, HTTP/1.0 and HTTP/2")
    rules = [
        "option accept-invalid-http-request",
        *bounds,
        f"http-request set-header x-request-id %[uuid] if !{{ req.fhdr(x-request-id) -m reg ^{REQUEST_ID}$ }} "
        "or { req.fhdr_cnt(x-request-id) gt 1 }",
        "http-request set-var(txn.request_id) req.fhdr(x-request-id)",
        *too_many,
        f"http-request return status 505 {version} hdr connection close "
        r"if { fc_http_major 1 } !{ req.ver -m reg ^1\.[0-9]$ }",
        f"http-request return status 400 {malformed} hdr connection close "
        f"if {{ url -m reg {_MALFORMED_URL} }} or {{ req.hdrs -m reg {_MALFORMED_HEADER} }}",
        "http-request del-header upgrade",  # RFC 9110, section 7.8: a server without WebSocket ignores the header
        f"http-request return status 414 {long_url} if {{ url,length gt {URL_BYTES} }}",
        f"http-request return status 431 {large} if {{ req.hdrs,length gt {HEADERS_BYTES} }}",
        f"http-request del-header ^({CONTROL_HEADERS})$ -m reg",
        *_CLOSING_RULES,
        # HAProxy inserts the secret from its environment, so the file does not show it.
        f'http-request set-header {SOURCE_HEADER} "%[src] %[src_port] %[dst_port] ${{{SECRET_VARIABLE}}}"',
    ]
    return _changed(text, r"^frontend http_frontend\n *bind .*$", "{0}\n" + _indented(rules), literal=True)


def _address_rules(limit: int) -> tuple[list[str], list[str]]:
    """Rules against too many connections of one address: 429 above the limit, a silent close from an eighth more on."""
    detail = f"this address has more than {limit} connections open ({ADDRESS_LIMIT_VARIABLE})"
    page = _page(429, "Too many requests", detail)
    return [
        "stick-table type ipv6 size 100k expire 1m store conn_cur",
        "tcp-request connection track-sc0 src,ipmask(32,64)",
        f"tcp-request connection reject if {{ sc0_conn_cur gt {limit + limit // 8} }}",
    ], [f"http-request return status 429 {page} hdr connection close if {{ sc0_conn_cur gt {limit} }}"]


def _page(status: int, title: str, detail: str) -> str:
    """Write a problem document (RFC 9457) as arguments of `http-request return` and `http-error`."""
    body = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": "%[var(txn.request_id)]",
    }
    retry = ' hdr Retry-After "1"' if status in (429, 503) else ""
    return (
        f"content-type application/problem+json lf-string '{json.dumps(body)}'{retry} "
        'hdr X-Request-ID "%[var(txn.request_id)]"'
    )


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


# By default HAProxy waits for the rest of a refused body for `timeout client`, while the client sends nothing.
_FITS: Final = f"{{ res.hdr(content-length) -m int le {_CLOSING_ANSWER_BYTES} }}"
_CLOSING_RULES: Final = (
    f"http-response set-var(txn.close) res.hdr({CLOSE_HEADER})",
    f"http-response del-header {CLOSE_HEADER}",
    f"http-response wait-for-body time 1s if {{ var(txn.close) -m found }} {_FITS}",
    f"http-response lua.answer_and_close if {{ var(txn.close) -m found }} {_FITS}",
    "http-response set-header connection close if { var(txn.close) -m found }",
)
_UNAVAILABLE: Final = _page(503, "Service unavailable", "no replica takes requests at present")


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


if __name__ == "__main__":
    main(sys.argv[1:])
