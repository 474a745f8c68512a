"""Tests of load clients that keep their connections."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.load import closed_loop, open_loop
from harness.ports import free_port
from harness.target import Form, Target
from tests.support.waiting import PATIENCE_S

FORM = Form("text/plain", b"ping")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 0.2\r\n\r\n"


@contextmanager
def _server(answer: Callable[[int], bytes | None], after_s: float = 0.0) -> Iterator[tuple[Target, list[int]]]:
    """Run a server that answers the n-th request with `answer(n)`, or hangs up.

    Yields its address and the requests of each connection.
    """
    loop, sent, count = asyncio.new_event_loop(), list[int](), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        sent.append(0)
        number = len(sent) - 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(FORM.body)) == FORM.body
                sent[number] += 1
                count += 1
                said = answer(count)
                await asyncio.sleep(after_s)
                if said is None:
                    break
                for byte in (said[:20], said[20:]):  # a head may arrive in pieces
                    writer.write(byte)
                    await writer.drain()
                if said == LAST:  # later bytes are lost
                    await reader.read()
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        await writer.wait_closed()

    async def end() -> None:
        server.close()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # each connection, until it is closed

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    host, port = server.sockets[0].getsockname()
    try:
        yield Target(host, port, "/", lambda image: Form("text/plain", image)), sent
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_clients_keep_their_connections() -> None:
    """Clients keep one connection each; only answers within the measured time are counted."""
    with _server(lambda _: OK) as (target, sent):
        load = closed_loop(target, [FORM], clients=3, warm_up_s=0.2, for_s=0.3)
    assert len(sent) == 3
    assert 0 < load.sent == len(load.took_s) < sum(sent)
    assert load.per_s == load.sent / 0.3
    assert not load.others


def test_answers_may_come_in_chunks() -> None:
    """Answers may be chunked, as those of Ray Serve's own proxy."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with _server(lambda _: head + b"4\r\npong\r\n0\r\n\r\n") as (target, sent):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.2)
    assert len(load.took_s) == load.sent > 1
    assert len(sent) == 1


@pytest.mark.parametrize("status", [b"429", b"503"])
def test_who_is_told_to_come_again_later_does(status: bytes) -> None:
    """A refused client waits for Retry-After: every second answer here refuses for a fifth of a second."""
    with _server(lambda number: OK if number % 2 else BUSY.replace(b"503", status)) as (target, _):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.5)
    assert 0 < load.refused <= 3  # of hundreds, if it did not wait
    assert 0 < len(load.took_s) <= 3
    assert {*load.others} == {status.decode()}


def test_a_connection_that_breaks_is_counted_and_opened_again() -> None:
    with _server(lambda number: None if number == 4 else OK) as (target, sent):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.3)
    assert load.others == {"closed": 1}
    assert sent[0] == 4
    assert len(sent) == 2
    assert 0 <= sum(sent) - load.sent <= 1  # the last one may be answered after the end


def test_after_the_last_answer_of_a_connection_another_is_opened() -> None:
    """When an answer closes its connection, the client opens another and sends nothing more on the old one."""
    with _server(lambda number: LAST if number % 3 == 0 else OK) as (target, sent):
        load = closed_loop(target, [FORM], clients=1, warm_up_s=0.0, for_s=0.3)
    assert not load.others
    assert len(load.took_s) > 3
    assert sent[:-1] == [3] * (len(sent) - 1)


def test_where_nobody_listens_every_request_is_lost() -> None:
    target = Target("127.0.0.1", free_port(), "/", lambda image: Form("text/plain", image))
    load = open_loop(target, [FORM], rate=50, for_s=0.2, chance=random.Random(1))
    assert load.sent == sum(load.others.values()) > 0
    assert {*load.others} == {"ConnectionRefusedError"}


def test_the_open_loop_waits_for_nobody() -> None:
    """The open loop sends all requests before the first answer, and counts each answer's time from when it was due."""
    with _server(lambda _: OK, after_s=0.4) as (target, sent):
        load = open_loop(target, [FORM], rate=100, for_s=0.3, chance=random.Random(2))
    assert len(sent) == load.sent == len(load.took_s) > 10
    assert min(load.took_s) > 0.39


def test_an_even_load_is_even() -> None:
    with _server(lambda _: OK) as (target, _):
        load = open_loop(target, [FORM], rate=100, for_s=0.3, chance=None)
    assert load.sent in (29, 30)
