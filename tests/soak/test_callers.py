"""Tests of the callers of a soak, against a server with given answers."""

import asyncio
import random
import time

import orjson

from tests.soak.callers import Callers, Record
from tests.soak.judgement import AnswerKind
from tests.soak.soaking import (
    A_CAT,
    CORPUS,
    TRUTH,
    Document,
    problem,
)


def _called(caller: str, *answers: bytes) -> Record:
    """Return the outcome of a caller at a server that gives these answers, one a request, and closes no connection."""
    left, ended = list(answers), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            if caller == "patient":
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.write(left.pop(0))
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def call() -> Record:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        callers = Callers(f"http://127.0.0.1:{port}", CORPUS, TRUTH, random.Random(1), time.monotonic)
        record = await callers.call(caller)
        await callers.close()
        await ended.wait()
        server.close()
        return record

    return asyncio.run(call())


def _on_the_wire(status: int, body: Document, header: str = "X-None: 0") -> bytes:
    data = orjson.dumps(body)
    return f"HTTP/1.1 {status} Told\r\n{header}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_a_stalled_caller_reads_its_refusal() -> None:
    """A stalled caller reads its refusal although the balancer keeps the connection open for the rest of the body."""
    (attempt,) = _called("stalled", _on_the_wire(408, problem(408, "body-timeout"))).attempts
    assert (attempt.status, attempt.verdict.kind) == (408, AnswerKind.RIGHT)


def test_a_patient_caller_comes_back_when_told() -> None:
    refused = _on_the_wire(503, problem(503, "overloaded"), "Retry-After: 0")
    record = _called("patient", refused, refused, _on_the_wire(200, A_CAT))
    assert [attempt.verdict.kind for attempt in record.attempts] == [
        AnswerKind.REFUSED,
        AnswerKind.REFUSED,
        AnswerKind.RIGHT,
    ]


def test_a_connection_that_breaks_is_an_answer_too() -> None:
    (attempt,) = _called("stalled", b"HTTP/1.1 200 Told\r\nContent-Length: none\r\n\r\n").attempts
    assert (attempt.status, attempt.verdict.kind) == (0, AnswerKind.BROKEN)
