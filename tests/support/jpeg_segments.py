"""Markers and segments of a JPEG file: take a file apart, put one together (ITU-T T.81 B.1.1)."""

import struct
from collections.abc import Iterable
from typing import Final

START: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"
SOF0: Final = 0xC0
SOF1: Final = 0xC1
SOF2: Final = 0xC2
SOF3: Final = 0xC3
DHT: Final = 0xC4
SOS: Final = 0xDA
DQT: Final = 0xDB
DNL: Final = 0xDC
DRI: Final = 0xDD


def segment(marker: int, body: bytes = b"") -> bytes:
    """Return a marker and its body behind a length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def segments(file: bytes) -> list[tuple[int, bytes]]:
    """Return marker and body of every segment up to the first scan.

    The last is SOS, with the rest of the file as its body.
    """
    found: list[tuple[int, bytes]] = []
    at = 2
    while True:
        marker, (length,) = file[at + 1], struct.unpack_from(">H", file, at + 2)
        if marker == SOS:
            return [*found, (SOS, file[at + 4 :])]
        found.append((marker, file[at + 4 : at + 2 + length]))
        at += 2 + length


def joined(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the file of these parts, as `segments` gives them."""
    scan_header_bytes = {n: 4 + 2 * n for n in range(1, 5)}
    file = START
    for marker, body in parts:
        head = scan_header_bytes.get(body[0], len(body)) if marker == SOS else len(body)
        file += segment(marker, body[:head]) + body[head:]
    return file


def with_segments(file: bytes, *added: bytes) -> bytes:
    """Return the file with segments right behind its start marker."""
    return file[:2] + b"".join(added) + file[2:]
