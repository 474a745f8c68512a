"""Connections that send abusive bodies: announced but never sent, endless, expanding, or full of objects."""

import asyncio
import gzip
from collections.abc import Mapping
from functools import partial
from typing import Final

from benchmarks.hostile_clients import HostileClients

_CLIENTS: Final = 8
_PIECE_BYTES: Final = 64 << 10
_BODY_BYTES: Final = 128 << 20
_IMAGE_BYTES: Final = 16 << 20

_JSON_TYPE: Final = b"application/json"
_FORM_TYPE: Final = b"multipart/form-data; boundary=x"
_JSON_START: Final = b'{"images": ['
_EMPTY_FIELD: Final = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'


def clients_with_hostile_bodies() -> Mapping[str, HostileClients]:
    """Return groups of connections, by the bodies that they send."""
    return {
        "18 that announce 128 MB": _clients(_JSON_TYPE, b"", b"", size=18),
        "1,100 that announce 16 MB": _clients(b"image/jpeg", b"", b"", to_bytes=_IMAGE_BYTES, size=1_100),
        "64 bodies, a byte a second": HostileClients(64, partial(_dribble, _head(b"image/jpeg", _IMAGE_BYTES))),
        "40 of 16 MB, all but the end": _clients(b"image/jpeg", b"", b"\xff", to_bytes=_IMAGE_BYTES - 1, size=40),
        "JSON, 120 MB of {}": _clients(_JSON_TYPE, _JSON_START, b"{},"),
        "JSON, 48 MB of []": _clients(_JSON_TYPE, _JSON_START, b"[],", to_bytes=48 << 20),
        "JSON, an image of 128 MB": _clients(_JSON_TYPE, _JSON_START + b'"', b"QUJD"),
        "JSON, an image of 128 MB in escapes": _clients(_JSON_TYPE, _JSON_START + b'"', rb"\u0041"),
        "JSON, 128 MB of spaces": _clients(_JSON_TYPE, b"", b" "),
        "a form of 128 MB of fields": _clients(_FORM_TYPE, b"", _EMPTY_FIELD),
        "a form, 128 MB that look like its boundary": _clients(_FORM_TYPE, _EMPTY_FIELD, b"\r\n--xy"),
        "gzip, an image of zeros": _clients_with_bomb(b"image/jpeg", b"", b"\0", _IMAGE_BYTES),
        "gzip, an image of 128 MB in JSON": _clients_with_bomb(_JSON_TYPE, _JSON_START + b'"', b"QUJD", _BODY_BYTES),
        "gzip, a form with a file of 128 MB": _clients_with_bomb(
            _FORM_TYPE, _EMPTY_FIELD.replace(b"a", b"f"), b"\0", _BODY_BYTES
        ),
    }


def _head(content_type: bytes, length: int, coding: bytes = b"identity") -> bytes:
    return (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
        % (content_type, coding, length)
    )


def _clients(
    content_type: bytes, start: bytes, repeated: bytes, *, to_bytes: int = _BODY_BYTES, size: int = _CLIENTS
) -> HostileClients:
    head = _head(content_type, to_bytes + (to_bytes < _IMAGE_BYTES))
    return HostileClients(
        size, partial(_stream, head + start, repeated * (_PIECE_BYTES // max(1, len(repeated))), to_bytes)
    )


def _clients_with_bomb(content_type: bytes, start: bytes, repeated: bytes, size: int) -> HostileClients:
    body = gzip.compress(start + repeated * (size // len(repeated)))
    return HostileClients(_CLIENTS, partial(_stream, _head(content_type, len(body), b"gzip") + body, b"", 0))


async def _stream(
    start: bytes, piece: bytes, to_bytes: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send a body until its end or until an answer comes; then wait for the answer."""
    answer = asyncio.create_task(reader.read(1024))
    try:
        writer.write(start)
        for _ in range(to_bytes // len(piece) if piece else 0):
            if answer.done():
                break
            writer.write(piece)
            await writer.drain()
        writer.write(piece[: to_bytes % len(piece)] if piece else b"")
        await answer
    finally:
        answer.cancel()


async def _dribble(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one byte a second until an answer comes."""
    answer = asyncio.create_task(reader.read(1024))
    writer.write(head)
    while not answer.done():
        writer.write(b"\xff")
        await writer.drain()
        await asyncio.wait([answer], timeout=1.0)
