"""Tests of the servers that benchmarks start."""

import sys
from pathlib import Path

import pytest

from benchmarks import servers
from harness.target import Form

SERVER = """
import http.server, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_nothing_of_a_server_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is ended with all its processes, also those that it started in another session."""
    monkeypatch.setattr(servers, "PEERS", tmp_path)
    kind = servers.ServerKind(
        name="careless",
        path="/",
        wrap=lambda image: Form("image/jpeg", image),
        command=lambda port, _: [sys.executable, "-c", SERVER, str(port)],
        plays=lambda _, __: True,
    )
    said = list[str]()
    with servers.running(kind, said.append) as server:
        family = server.processes()
        assert len(family) == 2
    assert not any(process.is_running() for process in family)
    assert "1 processes are left" in said[0]
