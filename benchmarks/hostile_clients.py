"""Groups of connections that stay open: slow bodies, slow headers, slow readers, idle connections."""

import asyncio
import base64
import json
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from benchmarks.work import SMALL
from harness.costly_images import lossless_webp
from harness.target import Target

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_RECEIVE_WINDOW_BYTES: Final = 2_048
_MAX_PAUSE_S: Final = 1.0


@dataclass
class HostileClients:
    """Connections of one kind.

    Args:
        size: connections open at a time; one that ends is replaced.
        talk: conversation of each connection, until it ends.
        opened: number of connections opened so far.
    """

    size: int
    talk: Conversation
    opened: int = field(default=0, compare=False)

    async def _one(self, target: Target) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_WINDOW_BYTES)
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, (target.host, target.port))
                self.opened += 1
                reader, writer = await asyncio.open_connection(sock=sock, limit=_RECEIVE_WINDOW_BYTES)
                try:
                    await self.talk(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(_MAX_PAUSE_S * random.random())

    async def run(self, target: Target, end: asyncio.Event) -> None:
        """Keep the connections open until `end` is set."""
        tasks = [asyncio.create_task(self._one(target)) for _ in range(self.size)]
        await end.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def connected(clients: HostileClients, target: Target) -> Iterator[None]:
    """Run the connections in a thread during the block."""
    loop, end = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(clients.run(target, end),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


def _post(content_type: str, size: int, *more: str) -> bytes:
    lines = ["POST /predict?top_k=10 HTTP/1.1", "Host: x", f"Content-Type: {content_type}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


async def _dribble(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one byte a second until the connection is closed; ignore answers."""
    writer.write(head)
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(_MAX_PAUSE_S):
                while await reader.read(1_024):
                    pass


async def _read_slowly(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a request and read its answer at a hundred bytes a second."""
    writer.write(request)
    await writer.drain()
    while await reader.read(100):  # noqa: ASYNC110  a pause, not a wait for something
        await asyncio.sleep(_MAX_PAUSE_S)


async def _idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one request and keep the connection open."""
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    while await reader.read(65_536):
        pass


async def _abandon(request: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a request and disconnect."""
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(_MAX_PAUSE_S / 2)


def _in_json(image: bytes, count: int, *headers: str) -> bytes:
    body = json.dumps({"images": [base64.b64encode(image).decode()] * count}).encode()
    return _post("application/json", len(body), *headers) + body


def hostile_clients() -> Mapping[str, HostileClients]:
    """Return groups of connections, by their behaviour."""
    orders = ("X-Request-Disconnect-Disabled: ?1", "X-Request-Timeout-Seconds: 60")
    return {
        "1,100 refused, then a byte a second": HostileClients(1_100, partial(_dribble, _post("text/plain", 1_000_000))),
        "1,100 headers, a byte a second": HostileClients(1_100, partial(_dribble, b"GET / HTTP/1.1\r\nX: ")),
        "64 that read 100 bytes a second": HostileClients(64, partial(_read_slowly, _in_json(SMALL.images[0], 32))),
        "2,000 idle": HostileClients(2_000, _idle),
        "16 that go away, with Serve's orders": HostileClients(
            16, partial(_abandon, _in_json(lossless_webp((4_000, 4_000)), 4, *orders))
        ),
    }
