"""Servers that benchmarks start, and the tables that they print."""

import sys
from pathlib import Path

import pytest

from benchmarks import fault_cells, servers
from harness import table
from harness.circumstances import circumstances
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
    """Neither itself nor what it has started in a session of its own."""
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


def test_the_table_sums_the_runs_up() -> None:
    runs = [
        {"good": 7, "lost": 2, "lost_got": {"500": 2}, "bad_got": {"422": 1}, "grown_bytes": 1e6},
        {"good": 7, "lost": 0, "lost_got": {}, "bad_got": {"422": 1}, "grown_bytes": 3e6},
        {"good": 7, "lost": 1, "lost_got": {"408": 1}, "bad_got": {"500": 1}, "grown_bytes": 2e6},
    ]
    assert fault_cells.neighbours_and_memory(runs) == "3 of 21 lost (500, 408); the bad one: 422, 500; +2 MB"


def test_the_table_says_who_never_came_back() -> None:
    runs = [
        {"sent": 100, "lost": 1, "lost_got": {"500": 1}, "answers_after_s": 0.5},
        {"sent": 50, "lost": 50, "lost_got": {"TimeoutError": 50}, "answers_after_s": None},
    ]
    assert fault_cells.kills(runs) == (
        "51 of 150 lost (TimeoutError, 500); answers after 0.5 s; not within 60 s, 1 of 2 times"
    )


def test_a_cell_cannot_break_the_markdown_table() -> None:
    assert table.markdown(["", "a"], [["x|y", "z"]]) == "|  | a |\n| --- | --- |\n| x\\|y | z |\n"


def test_the_text_table_folds_long_cells() -> None:
    first, second, *_ = table.text(["", "a"], [["word " * 10, "z"]]).split("\n\n")
    assert first.split() == ["a"]
    assert len(second.splitlines()) == 2


def test_a_page_shows_no_path_of_the_machine_that_it_was_made_on() -> None:
    about = circumstances("benchmarks.gpu", ["--out", "/home/somebody/out", "--only", "facts"])
    assert about["command"] == "python -m benchmarks.gpu --out out --only facts"
