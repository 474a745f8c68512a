"""Crowds of connections that hold on to what they have opened: slow bodies, slow headers, slow readers, idle ones."""

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

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_SMALL_WINDOW_BYTES: Final = 2_048
_PAUSE_S: Final = 1.0


@dataclass
class Crowd:
    """Connections of one kind.

    Args:
        size: how many are open at a time; one that ends is opened anew.
        talk: what each of them says, until it ends.
        opened: how often one was opened so far.
    """

    size: int
    talk: Talk
    opened: int = field(default=0, compare=False)

    async def _one(self, target: Target) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW_BYTES)
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, (target.host, target.port))
                self.opened += 1
                reader, writer = await asyncio.open_connection(sock=sock, limit=_SMALL_WINDOW_BYTES)
                try:
                    await self.talk(reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(_PAUSE_S * random.random())

    async def run(self, target: Target, end: asyncio.Event) -> None:
        """Keep them open until the end."""
        tasks = [asyncio.create_task(self._one(target)) for _ in range(self.size)]
        await end.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def present(crowd: Crowd, target: Target) -> Iterator[None]:
    """The crowd, in a thread, while the block runs."""
    loop, end = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(crowd.run(target, end),))
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
    """Sends a byte a second, whatever comes back, until the connection is closed."""
    writer.write(head)
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE_S):
                while await reader.read(1_024):
                    pass


async def _read_slowly(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a request and takes its answer a hundred bytes a second."""
    writer.write(request)
    await writer.drain()
    while await reader.read(100):  # noqa: ASYNC110  a pause, not a wait for something
        await asyncio.sleep(_PAUSE_S)


async def _idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks once and stays."""
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    while await reader.read(65_536):
        pass


async def _abandon(request: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends a request and goes away."""
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(_PAUSE_S / 2)


def _in_json(image: bytes, count: int, *headers: str) -> bytes:
    body = json.dumps({"images": [base64.b64encode(image).decode()] * count}).encode()
    return _post("application/json", len(body), *headers) + body


def crowds() -> Mapping[str, Crowd]:
    """Crowds, by what they do."""
    orders = ("X-Request-Disconnect-Disabled: ?1", "X-Request-Timeout-Seconds: 60")
    return {
        "1,100 refused, then a byte a second": Crowd(1_100, partial(_dribble, _post("text/plain", 1_000_000))),
        "1,100 headers, a byte a second": Crowd(1_100, partial(_dribble, b"GET / HTTP/1.1\r\nX: ")),
        "64 that read 100 bytes a second": Crowd(64, partial(_read_slowly, _in_json(SMALL.images[0], 32))),
        "2,000 idle": Crowd(2_000, _idle),
        "16 that go away, with Serve's orders": Crowd(
            16, partial(_abandon, _in_json(lossless_webp((4_000, 4_000)), 4, *orders))
        ),
    }
