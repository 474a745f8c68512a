"""Rules by which HAProxy checks, changes and refuses requests before any replica sees them.

Run in a program that each reload of HAProxy waits for (haproxy.py), so it imports only the standard library.
"""

import json
from typing import Final

SECRET_VARIABLE: Final = "DARKROOM_PROXY_SECRET"  # noqa: S105  the name of a variable
"""Environment variable with the secret that HAProxy and the replicas share; the launcher makes a new one each run."""

ADDRESS_LIMIT_VARIABLE: Final = "DARKROOM_MAX_CONNECTIONS_PER_ADDRESS"
"""Environment variable with the connections that one address may have open; 0 for no limit."""

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

MAX_HEADERS_BYTES: Final = 16_384
MAX_URL_BYTES: Final = 8_192

_MAX_CLOSING_ANSWER_BYTES: Final = 16_384
"""Largest answer that HAProxy sends as its own: the answer has to fit into its buffer beside the headers."""

_MALFORMED_URL: Final = r"'[^!-~]|#'"
_MALFORMED_HEADER: Final = (
    r"""'(?m)^[^:\n]*[\x00-\x09\x0b\x0c\x0e-\x20"(),/;<=>?@\[\\\]{}\x7f-\xff]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]'"""
)
"""Header whose name is no token of RFC 9110, or whose value holds a control character."""

# By default HAProxy waits for the rest of a refused body for `timeout client`, while the client sends nothing.
_FITS: Final = f"{{ res.hdr(content-length) -m int le {_MAX_CLOSING_ANSWER_BYTES} }}"
_CLOSING_RULES: Final = (
    f"http-response set-var(txn.close) res.hdr({CLOSE_HEADER})",
    f"http-response del-header {CLOSE_HEADER}",
    f"http-response wait-for-body time 1s if {{ var(txn.close) -m found }} {_FITS}",
    f"http-response lua.answer_and_close if {{ var(txn.close) -m found }} {_FITS}",
    "http-response set-header connection close if { var(txn.close) -m found }",
)


def request_rules(address_limit: int) -> list[str]:
    """Return the rules for every request, in HAProxy's order, before it is decided where it goes.

    Args:
        address_limit: connections that one address may have open; 0 for no limit.
    """
    bounds, too_many = _address_rules(address_limit) if address_limit else ([], [])
    long_url = problem_page(414, "URI too long", f"the limit is {MAX_URL_BYTES} bytes")
    large = problem_page(431, "Request header fields too large", f"the limit is {MAX_HEADERS_BYTES} bytes of headers")
    malformed = problem_page(
        400, "Bad request", "a character that HTTP does not allow stands in the URL or in a header"
    )
    version = problem_page(505, "HTTP version not supported", "this service speaks HTTP/1.1, HTTP/1.0 and HTTP/2")
    return [
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
        f"http-request return status 414 {long_url} if {{ url,length gt {MAX_URL_BYTES} }}",
        f"http-request return status 431 {large} if {{ req.hdrs,length gt {MAX_HEADERS_BYTES} }}",
        f"http-request del-header ^({CONTROL_HEADERS})$ -m reg",
        *_CLOSING_RULES,
        # HAProxy inserts the secret from its environment, so the file does not show it.
        f'http-request set-header {SOURCE_HEADER} "%[src] %[src_port] %[dst_port] ${{{SECRET_VARIABLE}}}"',
    ]


def _address_rules(limit: int) -> tuple[list[str], list[str]]:
    """Rules against too many connections of one address: 429 above the limit, a silent close from an eighth more on."""
    detail = f"this address has more than {limit} connections open ({ADDRESS_LIMIT_VARIABLE})"
    page = problem_page(429, "Too many requests", detail)
    return [
        "stick-table type ipv6 size 100k expire 1m store conn_cur",
        "tcp-request connection track-sc0 src,ipmask(32,64)",
        f"tcp-request connection reject if {{ sc0_conn_cur gt {limit + limit // 8} }}",
    ], [f"http-request return status 429 {page} hdr connection close if {{ sc0_conn_cur gt {limit} }}"]


def problem_page(status: int, title: str, detail: str) -> str:
    """Return a problem document (RFC 9457) as arguments of `http-request return` and `http-error`."""
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


UNAVAILABLE: Final = problem_page(503, "Service unavailable", "no replica takes requests at present")
