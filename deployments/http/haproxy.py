"""Changes to the HAProxy configuration that Ray Serve writes; run by haproxy.sh at each start and reload of HAProxy.

Serve's template has no setting for any of this. Imports only the standard library, and little of it: each reload waits
for it.
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
"""Environment variable with a word that HAProxy and the replicas share, made anew for each run by the launcher."""

HOST_VARIABLE: Final = "DARKROOM_HTTP_HOST"
"""Environment variable with `http_options.host`: where it is `::`, Serve writes `*`, which is IPv4 alone."""

ADDRESS_LIMIT_VARIABLE: Final = "DARKROOM_MAX_CONNECTIONS_PER_ADDRESS"
"""Environment variable with the connections that one address may have open; 0 for no limit."""

ADDRESS_LIMIT: Final = 2_048
"""Default limit of connections an address: half of those that HAProxy holds by default."""

HALF_CLOSE_VARIABLE: Final = "DARKROOM_HALF_CLOSE"
"""Environment variable, 1 where replicas look after clients that have closed their half (half_closed.py)."""

SOURCE_HEADER: Final = "x-darkroom-source"
"""Set by HAProxy on every request, in the place of what a client sends under this name.

`ADDRESS PORT OWN_PORT SECRET`: where the client's connection comes from, and HAProxy's port that it comes to.
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
"""Names of the headers by which the parts of Ray Serve tell each other what to do; none is a client's to send."""

REQUEST_ID: Final = r"[A-Za-z0-9._~:;,/+=@-]{1,128}"
"""An X-Request-ID that a client may choose; any other is replaced by a fresh one."""

CLOSE_HEADER: Final = "x-darkroom-close"
"""Header of an answer to a request whose body has not all been read: HAProxy is to close the connection."""

HEADERS_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_MS: Final = 200
HEADERS_BYTES: Final = 16_384
URL_BYTES: Final = 8_192

_BUFFER_BYTES: Final = 32_768
"""HAProxy cannot answer in JSON where the headers do not fit into its buffer, so it is larger than their limit."""

_HEADERS: Final = 512
"""Headers of a request that HAProxy reads; 101 by default."""

_CLOSING_ANSWER_BYTES: Final = 16_384
"""Largest answer that HAProxy gives as its own: it has to fit into its buffer beside the headers."""

_OTHER_FILES: Final = 200
"""Files that HAProxy opens beside two for each connection: its listening sockets, health checks, log."""

_LUA: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "answer_and_close.lua")
_MARK: Final = "# Changed by Darkroom: deployments/http/haproxy.py\n"

_MALFORMED_URL: Final = r"'[^!-~]|#'"
_MALFORMED_HEADER: Final = (
    r"""'(?m)^[^:\n]*[\x00-\x09\x0b\x0c\x0e-\x20"(),/;<=>?@\[\\\]{}\x7f-\xff]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'"""
)
"""No token of RFC 9110 before the colon, or a control character after it."""

# HAProxy 2.8 answers a request that it cannot parse with HTML of its own, and takes an empty page in its place, but no
# other one (https://github.com/haproxy/haproxy/issues/3032, mended in 3.3). These statuses it gives for nothing else.
# So it parses what it can (`accept-invalid-http-request`), and rules refuse that.
_UNPARSED: Final = (400, 405, 408, 413, 422, 501)


class UnknownTemplate(Exception):
    """Serve writes another configuration than this module was made for."""


def edited(text: str, environment: Mapping[str, str], cores: int, files: int) -> str:
    """Return the configuration with Darkroom's changes.

    Args:
        text: as Serve has written it.
        environment: of HAProxy.
        cores: that HAProxy may use.
        files: that HAProxy may open.

    Raises:
        UnknownTemplate: a line that a change hangs on is missing.
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
    """No more threads than cores, which would take turns; no more connections than files, or HAProxy does not start."""
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
    """HAProxy's pages of statistics and metrics are not for the network, nor is its socket for other users."""
    text = _changed(text, r"^( *stats socket .* mode )666 ", r"\g<1>600 ")
    text = _changed(text, r"^(frontend prometheus\n *bind )\*?:", r"\g<1>127.0.0.1:")
    return _changed(text, r"^(listen stats\n *bind )\*?:", r"\g<1>127.0.0.1:")


def _with_pages(text: str) -> str:
    """Problem documents for what HAProxy answers itself, and the status that fits; Serve has plain text."""
    text = _changed(text, r"^ *errorfile 50[234] .*\n", "")
    gone = "the replica that had the request has ended; it may be sent again, as it changes nothing"
    lines = [
        f"timeout http-request {HEADERS_TIMEOUT_S}s",  # a byte a minute would hold a connection for weeks
        *(f"errorfile {status} /dev/null" for status in _UNPARSED),
        "timeout client-fin 2s",  # without it a connection that ends with an empty page stays for `timeout client`
        f"http-error status 500 {_page(500, 'Internal server error', 'the balancer could not handle the request')}",
        f"http-error status 502 {_page(502, 'Bad gateway', gone)}",
        f"http-error status 503 {_UNAVAILABLE}",
        f"http-error status 504 {_page(504, 'Gateway timeout', 'the replica has not answered in time')}",
    ]
    text = _changed(text, r"^defaults$", "{0}\n" + _indented(lines), literal=True)
    # While Serve knows no application it writes no use_backend, and every path would be unknown.
    absent = _page(404, "Not found", "no application is served under this path")
    status, page = (404, absent) if re.search(r"^ *use_backend ", text, re.MULTILINE) else (503, _UNAVAILABLE)
    text = _changed(text, _in_plain_text(404), f"http-request return status {status} {page}", literal=True)
    return re.sub(_in_plain_text(503), lambda _: f"http-request return status 503 {_UNAVAILABLE}", text)


def _with_quick_retries(text: str) -> str:
    """Ask another replica soon after one that refuses connections, as a killed one does.

    HAProxy waits for `timeout connect` first, 1 s at most. A replica on this machine takes a connection at once; where
    one is on another node, Serve's 5 s stay.
    """
    hosts = set(re.findall(r"^ *server \S+ (\S+):\d+ ", text, re.MULTILINE))
    if not hosts <= {"127.0.0.1", "[::1]", "localhost"}:
        return text
    return _changed(text, r"^( *)timeout connect .*$", rf"\g<1>timeout connect {CONNECT_TIMEOUT_MS}ms")


def _in_plain_text(status: int) -> str:
    return rf'http-request return status {status} content-type text/plain (?:lf-)?string "[^"]*"'


def _reached_by_ipv6(text: str, host: str) -> str:
    """Listen where `host` says; replicas and the proxy of Serve that stands in for them listen there too."""
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
        "http-request del-header upgrade",  # RFC 9110, section 7.8: whoever knows no WebSocket answers as without it
        f"http-request return status 414 {long_url} if {{ url,length gt {URL_BYTES} }}",
        f"http-request return status 431 {large} if {{ req.hdrs,length gt {HEADERS_BYTES} }}",
        f"http-request del-header ^({CONTROL_HEADERS})$ -m reg",
        *_CLOSING_RULES,
        # HAProxy puts the secret in by itself, so the file does not show it.
        f'http-request set-header {SOURCE_HEADER} "%[src] %[src_port] %[dst_port] ${{{SECRET_VARIABLE}}}"',
    ]
    return _changed(text, r"^frontend http_frontend\n *bind .*$", "{0}\n" + _indented(rules), literal=True)


def _address_rules(limit: int) -> tuple[list[str], list[str]]:
    """A client with too many connections is told so; with an eighth more, its next ones end without a word."""
    detail = f"this address has more than {limit} connections open ({ADDRESS_LIMIT_VARIABLE})"
    page = _page(429, "Too many requests", detail)
    return [
        "stick-table type ipv6 size 100k expire 1m store conn_cur",
        "tcp-request connection track-sc0 src,ipmask(32,64)",
        f"tcp-request connection reject if {{ sc0_conn_cur gt {limit + limit // 8} }}",
    ], [f"http-request return status 429 {page} hdr connection close if {{ sc0_conn_cur gt {limit} }}"]


def _page(status: int, title: str, detail: str) -> str:
    """A problem document by RFC 9457, as the arguments of `http-request return` and `http-error`."""
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
    """The text with all that matches replaced; a literal replacement has `{0}` for what was there."""
    by = (lambda found: replacement.replace("{0}", found[0])) if literal else replacement
    text, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    if not count:
        raise UnknownTemplate(f"HAProxy's configuration has nothing like {pattern}")
    return text


# By itself HAProxy waits for the rest of a refused body, as long as `timeout client` says, while the client is silent.
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
    """Edit the file behind `-f`, once, and become HAProxy."""
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
    """Start what ends HAProxy, which this process becomes, where somebody has stopped it (SIGSTOP)."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    program = (
        "import sys; sys.path.append(sys.argv[1]); from deployments.watchdog_process import main; main(*sys.argv[2:])"
    )
    command = [sys.executable, "-I", "-S", "-c", program, root, "HAProxy", str(os.getpid())]
    os.posix_spawn(sys.executable, command, os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
