"""Valid and damaged WebPs."""

import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from harness.photographs import encoded
from tests.odd.odd_file import DAMAGED, OddFile, answered, by_pillow, damaged, refused_or
from tests.odd.seeds import cat, cut_out, flower

_CUTS = (10, 30, 50, 70, 90, 99)


def webps() -> Iterator[OddFile]:
    """Yield the files, valid ones first."""
    yield from _sound()
    for name, file in _plain().items():
        yield from _damaged(name, file)


def _plain() -> dict[str, bytes]:
    return {
        "lossy": encoded(cat(), "WEBP", quality=90),
        "lossless": encoded(cat(), "WEBP", lossless=True),
        "alpha": encoded(cut_out(), "WEBP", quality=90),
    }


def chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    """Return name and body of each chunk of a valid file."""
    found: list[tuple[bytes, bytes]] = []
    at = 12
    while at < len(file):
        (length,) = struct.unpack_from("<I", file, at + 4)
        found.append((file[at : at + 4], file[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    """Return the file of these chunks."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _sound() -> Iterator[OddFile]:
    kind, plain = "WebP", _plain()
    options: dict[str, dict[str, Any]] = {
        "method 0": {"method": 0},
        "method 6": {"method": 6},
        "quality 1": {"quality": 1},
        "quality 100": {"quality": 100},
        "lossless of low effort": {"lossless": True, "quality": 0, "method": 0},
        "near lossless, exact": {"lossless": True, "exact": True, "quality": 100},
        "with an ICC profile": {"icc_profile": bytes(999)},
        "with XMP": {"xmp": b"<x:xmpmeta/>" * 99},
        "with Exif of no orientation": {"exif": Image.Exif().tobytes()},
        "animated": {"save_all": True, "append_images": [flower()], "quality": 90},
        "animated lossless": {"save_all": True, "append_images": [flower()], "lossless": True},
    }
    for name, each in options.items():
        file = encoded(cat(), "WEBP", **each)
        yield answered(kind, name, file, by_pillow(file))
    for width, height in ((1, 1), (1, 9), (9, 1), (16, 16), (300, 2)):
        for lossless in (False, True):
            file = encoded(cat().resize((width, height)), "WEBP", lossless=lossless)
            name = f"{width} x {height}{', lossless' if lossless else ''}"
            yield answered(kind, name, file, by_pillow(file))
    reference = by_pillow(plain["lossy"])
    extended = encoded(cat(), "WEBP", quality=90, xmp=b"<x/>")
    unknown = joined([*chunks(extended), (b"ODD ", b"anything at all")])
    yield answered(kind, "an unknown chunk", unknown, reference)
    yield answered(kind, "bytes behind it", plain["lossy"] + bytes(100), reference)


def _damaged(name: str, file: bytes) -> Iterator[OddFile]:
    kind = "WebP, damaged"
    for percent in _CUTS:
        yield damaged(kind, f"{name}, cut after {percent} %", file[: len(file) * percent // 100])
    body = len(file) // 2
    yield refused_or(kind, f"{name}, 40 bytes zeroed", file[:body] + bytes(40) + file[body + 40 :], None, DAMAGED)
    short = file[:4] + struct.pack("<I", len(file) // 2) + file[8:]
    yield refused_or(kind, f"{name}, RIFF of half the size", short, None, DAMAGED)
    long = file[:4] + struct.pack("<I", len(file) + 1000) + file[8:]
    yield refused_or(kind, f"{name}, RIFF of 1000 bytes more", long, None, DAMAGED)
    yield damaged(kind, f"{name}, no chunk behind the header", file[:12])
    yield damaged(kind, f"{name}, its pixels' chunk is empty", _without_pixels(file))


def _without_pixels(file: bytes) -> bytes:
    return joined([(name, b"" if name in (b"VP8 ", b"VP8L") else body) for name, body in chunks(file)])
