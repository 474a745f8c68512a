"""What the benchmarks count with: the clients' clock, what they call lost, and the table."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks import servers, table
from benchmarks.clients import Answer, closed_loop, leave, open_loop
from benchmarks.command import circumstances
from benchmarks.images import announced_bomb, decodable_bomb, photographs, truncated
from harness.target import Form, Target
from pipeline.engine import Engine
from pipeline.errors import TooManyPixels, UndecodableImage
from pipeline.records import Prediction, Rejection
from tests.support.waiting import PATIENCE_S

Reply = Callable[[bytes], Awaitable[bytes | None]]

FORM = Form("text/plain", b"ping")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def _server(reply: Reply) -> AsyncIterator[Target]:
    """Answers every connection with what `reply` makes of its request; where that is None, by hanging up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(FORM.body))
        if (answer := await reply(head + body)) is not None:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield Target(host, port, "/", lambda image: Form("text/plain", image))


def test_the_open_loop_does_not_wait_for_answers() -> None:
    """None is answered before the last has come."""
    everybody, waiting = 20, asyncio.Event()
    seen = list[bytes]()

    async def reply(request: bytes) -> bytes:
        seen.append(request)
        if len(seen) == everybody:
            waiting.set()
        await waiting.wait()
        return OK

    async def run() -> None:
        async with _server(reply) as target:
            answers = await open_loop(target, [FORM], rate=100, for_s=everybody / 100)
        assert [answer.status for answer in answers] == [200] * everybody
        due = [answer.due_at - answers[0].due_at for answer in answers]
        assert due == pytest.approx([number / 100 for number in range(everybody)])
        ends = [answer.due_at + answer.took_s for answer in answers]
        assert min(ends) >= answers[-1].due_at

    asyncio.run(run())


def test_a_stall_of_the_clients_hides_no_time_of_the_server() -> None:
    """What is sent late has its time counted from when it was due."""

    async def reply(_: bytes) -> bytes:
        time.sleep(0.05)  # noqa: ASYNC251  stops the clients too, they share its event loop
        return OK

    async def run() -> Answer:
        async with _server(reply) as target:
            answers = await open_loop(target, [FORM], rate=100, for_s=0.1)
        return max(answers, key=lambda answer: answer.late_s)

    latest = asyncio.run(run())
    assert 0 < latest.late_s < latest.took_s


def test_the_open_loop_tells_refused_from_broken() -> None:
    async def run() -> list[int | None]:
        replies = iter([OK, BUSY, None])

        async def reply(_: bytes) -> bytes | None:
            return next(replies)

        async with _server(reply) as target:
            return [answer.status for answer in await open_loop(target, [FORM], rate=20, for_s=0.15)]

    assert asyncio.run(run()) == [200, 503, None]


def test_the_open_loop_ends_when_it_is_told() -> None:
    async def run() -> int:
        enough = asyncio.Event()

        async def reply(_: bytes) -> bytes:
            enough.set()
            return OK

        async with _server(reply) as target:
            return len(await open_loop(target, [FORM], rate=100, for_s=3600, enough=enough))

    assert asyncio.run(run()) < 3600


def test_the_closed_loop_has_no_more_requests_than_clients() -> None:
    most = 0

    async def run() -> float:
        now = 0

        async def reply(_: bytes) -> bytes:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            return OK

        async with _server(reply) as target:
            return await closed_loop(target, [FORM], clients=3, warm_up_s=0.05, for_s=0.2)

    assert asyncio.run(run()) > 0
    assert most == 3


def test_who_leaves_has_sent_everything() -> None:
    """A client that hangs up while it still sends would be another fault."""
    seen = list[bytes]()

    async def run() -> None:
        came = asyncio.Event()

        async def reply(request: bytes) -> None:
            seen.append(request)
            came.set()

        async with _server(reply) as target:
            await leave(target, FORM, after_s=0)
            await asyncio.wait_for(came.wait(), PATIENCE_S)

    asyncio.run(run())
    assert seen[0].endswith(FORM.body)


def test_the_images_are_what_they_are_called(engine: Engine) -> None:
    outcomes = engine.infer([*photographs(), truncated(), announced_bomb(), decodable_bomb()])
    *good, cut_off, announced, decodable = outcomes
    assert all(isinstance(outcome, Prediction) for outcome in good)
    for outcome, error in ((cut_off, UndecodableImage), (announced, TooManyPixels), (decodable, TooManyPixels)):
        assert isinstance(outcome, Rejection)
        assert isinstance(outcome.error, error)
    assert len(decodable_bomb()) < 1 << 20


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
    kind = servers.Kind(
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
    assert table.neighbours_and_memory(runs) == "3 of 21 lost (500, 408); the bad one: 422, 500; +2 MB"


def test_the_table_says_who_never_came_back() -> None:
    runs = [
        {"sent": 100, "lost": 1, "lost_got": {"500": 1}, "answers_after_s": 0.5},
        {"sent": 50, "lost": 50, "lost_got": {"TimeoutError": 50}, "answers_after_s": None},
    ]
    assert table.kills(runs) == (
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
