"""Servers that stand in for a replica behind HAProxy."""

import json
from http.server import BaseHTTPRequestHandler

from tests.support.balancer import Reply

MAX_OPEN_FILES = 20_000
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class EchoServer(BaseHTTPRequestHandler):
    """A server that answers with the headers of the request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each body waits 40 ms for the acknowledgement of its headers

    def do_GET(self) -> None:
        """Answer with the headers as JSON."""
        body = json.dumps([(name.lower(), value) for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class ClosingEchoServer(EchoServer):
    """An echo server that closes each connection after its answer."""

    protocol_version = "HTTP/1.0"


def seen(reply: Reply | None) -> dict[str, list[str]]:
    """Return the headers that the replica received."""
    assert reply is not None
    headers: dict[str, list[str]] = {}
    for name, value in json.loads(reply.body):
        headers.setdefault(name, []).append(value)
    return headers
