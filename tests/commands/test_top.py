"""Tests of `darkroom top`, which shows the figures of a running service."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from commands.replicas import Replicas
from harness.photographs import jpeg, photograph
from tests.support.running_service import Service
from tests.support.typed import started, typed
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))


def test_it_shows_a_service_once(service: Service) -> None:
    """With --once the figures of GET /stats are shown and the command ends."""
    service.post(CAT).raise_for_status()
    until(lambda: service.client.get("/stats").json()["requests"].get("predicted"))
    said = typed("top", service.url, "--once", "--seconds", "60")
    assert (said.exit_code, said.stderr) == (0, "")
    stats = service.client.get("/stats").json()
    assert f"{service.url}  1 replica" in said.stdout
    assert f"replica {stats['replica']}  p50" in said.stdout
    assert "predicted" in said.stdout


def test_it_goes_on_until_ctrl_c(service: Service) -> None:
    process = started("top", service.url)
    assert process.stdout
    titles = (line for line in process.stdout if service.url.encode() in line)
    assert [b"1 replica" in next(titles) for _ in range(2)] == [True, True]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")


@contextmanager
def _answering(status: int, *bodies: bytes) -> Iterator[str]:
    """Run a server that gives these answers in turn, again and again; yield its URL."""
    turn = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal turn
            self.send_response(status)
            self.end_headers()
            self.wfile.write(bodies[turn % len(bodies)])
            turn += 1

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b"{}", "missing or unknown API key; give --key, or DARKROOM_API_KEY"),
        (404, b"Not found", "answers with status 404 and without Darkroom's figures"),
        (200, b"hello", "answers with status 200 and without Darkroom's figures"),
        (200, b"[1]", "without Darkroom's figures"),
    ],
)
def test_what_is_no_service_of_darkrooms_is_one_sentence(status: int, body: bytes, says: str) -> None:
    with _answering(status, body) as url:
        said = typed("top", url, "--once")
    assert (said.exit_code, said.stdout) == (1, "")
    assert says in said.stderr
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://["])  # port 1 is nobody's
def test_where_nobody_answers_that_is_said(url: str) -> None:
    said = typed("top", url)
    assert said.exit_code == 1
    assert said.stderr.startswith(f"darkroom: no service answers at {url}")
    assert said.stderr.count("\n") == 1


def test_every_replica_is_found_and_one_that_is_silent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """All replicas are found, even if a balancer chooses the same several times; one that stays silent is dropped."""
    one, two = (f'{{"replica": "{name}", "verdict": ""}}'.encode() for name in ("one", "two"))
    with _answering(200, one, one, one, one, two, one) as url:
        replicas = Replicas(url, 10, None)
        assert [stats["replica"] for stats in replicas.read()] == ["one", "two"]
        monkeypatch.setattr("commands.replicas.FORGOTTEN_AFTER_S", -1.0)
        assert replicas.read() == []
        replicas.close()
