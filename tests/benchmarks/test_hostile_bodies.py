"""Tests of hostile clients whose bodies cost too much: each sends the body that its name says."""

import asyncio
import gzip
from contextlib import suppress

from benchmarks.hostile_bodies import clients_with_hostile_bodies
from tests.support.waiting import PATIENCE_S


async def _received(name: str) -> tuple[bytes, bytes]:
    """Return head and body that one client of a group sends to a server, which answers when no more arrives."""
    talk, parts = clients_with_hostile_bodies()[name].talk, list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        parts.extend([head, await reader.readexactly(min(length, 1 << 20))])
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with asyncio.timeout(PATIENCE_S), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()
    head, body = parts
    return head, body


def test_hostile_clients_stop_sending_when_they_are_answered() -> None:
    """Each client sends the body that its name says, and stops once it is answered, long before 120 MB."""
    head, body = asyncio.run(_received("JSON, 120 MB of {}"))
    assert b"Content-Type: application/json" in head
    assert body.startswith(b'{"images": [{},{},{},')
    head, body = asyncio.run(_received("gzip, an image of zeros"))
    assert b"Content-Encoding: gzip" in head
    assert gzip.decompress(body) == bytes(16 << 20)
