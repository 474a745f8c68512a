"""Extracts the parts of a WebP that its first picture needs, so that damage elsewhere in the file does not matter."""

import struct
from collections.abc import Iterator
from typing import Final

from pipeline.errors import UndecodableImage
from pipeline.images.orientation import Metadata

_FIRST_CHUNK_AT: Final = 12  # after "RIFF", the size and "WEBP"
_PIXEL_CHUNKS: Final = (b"VP8 ", b"VP8L", b"ANMF")
_NEEDED_CHUNKS: Final = (b"VP8X", b"ALPH", b"ANIM", *_PIXEL_CHUNKS)
_KNOWN_CHUNKS: Final = (*_NEEDED_CHUNKS, b"ICCP", b"EXIF", b"XMP ")
_METADATA_FLAGS: Final = 0x20 | 0x08 | 0x04  # ICC, Exif and XMP, in the first byte of VP8X


def pixels_of_webp(data: memoryview) -> tuple[bytes | memoryview, Metadata]:
    """Return a WebP with the first picture and nothing else, and the metadata that may contain its orientation.

    Raises:
        UndecodableImage: the first picture is cut off.
    """
    needed: list[tuple[bytes, memoryview]] = []
    metadata: dict[bytes, bytes] = {}
    others, complete = False, False
    end = 0
    for name, body, size, end in _chunks(data):  # noqa: B007 - the last one counts
        if name in _NEEDED_CHUNKS and not complete:
            if len(body) < size:
                raise UndecodableImage(f"the image is damaged: {len(body)} of {size} bytes of its pixels are there")
            needed.append((name, body))
            complete = name in _PIXEL_CHUNKS
        else:
            others = True
            metadata.setdefault(name, bytes(body) if name in (b"EXIF", b"XMP ") else b"")
    if not complete:
        raise UndecodableImage("the image is damaged: no byte of its pixels is there")
    whole = not others and int.from_bytes(data[4:8], "little") + 8 == end
    return (data if whole else _joined(needed)), Metadata(metadata.get(b"EXIF", b""), metadata.get(b"XMP ", b""))


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, int, int]]:
    """Yield name, data, size and end of each chunk, also if one of odd size is not padded; the last may be cut off."""
    at = _FIRST_CHUNK_AT
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        at += 8 + size
        if size & 1 and not (
            bytes(data[at : at + 4]) in _KNOWN_CHUNKS and bytes(data[at + 1 : at + 5]) not in _KNOWN_CHUNKS
        ):
            at += 1
        yield name, body, size, at


def _joined(chunks: list[tuple[bytes, memoryview]]) -> bytes:
    parts: list[bytes | memoryview] = [b"WEBP"]
    for name, body in chunks:
        whole: bytes | memoryview = body
        if name == b"VP8X":
            whole = bytes((body[0] & ~_METADATA_FLAGS,)) + bytes(body[1:])
        parts += (name, len(whole).to_bytes(4, "little"), whole, b"\0" * (len(whole) & 1))
    size = sum(map(len, parts))
    return b"".join((b"RIFF", size.to_bytes(4, "little"), *parts))
