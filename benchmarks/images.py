"""The files that are sent: scikit-image's photographs, and what can be wrong with one. The same in every run."""

import functools
import io
import struct
import zlib
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from PIL import Image

_PHOTOGRAPHS: Final = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


@functools.cache
def photographs() -> tuple[bytes, ...]:
    """JPEGs of 0.1 to 0.3 megapixels."""
    return tuple(_jpeg(_photograph(name)) for name in _PHOTOGRAPHS)


@functools.cache
def phone_photograph() -> bytes:
    """A JPEG of 4000 x 3000, as a telephone makes them."""
    return _jpeg(_photograph("coffee.png").resize((4000, 3000), Image.Resampling.LANCZOS))


def truncated() -> bytes:
    """A photograph whose second half is missing: its header is whole, its pixels are not."""
    whole = photographs()[0]
    return whole[: len(whole) // 2]


def announced_bomb() -> bytes:
    """A PNG whose header says 50,000 x 50,000, with the pixels of one row behind it."""
    return _png(50_000, rows=1)


@functools.cache
def decodable_bomb() -> bytes:
    """A well-formed PNG of 12,000 x 12,000 black pixels in 0.4 MB; Pillow only warns of it, and needs 0.6 GB."""
    return _png(12_000, rows=12_000)


def _photograph(name: str) -> Image.Image:
    path = Path(str(distribution("scikit-image").locate_file(f"skimage/data/{name}")))
    return Image.open(path).convert("RGB")


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def _png(side: int, *, rows: int) -> bytes:
    """A black RGB PNG by hand: Pillow would need all its pixels in memory."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    row, deflate = bytes(1 + 3 * side), zlib.compressobj(9)
    pixels = b"".join([*(deflate.compress(row) for _ in range(rows)), deflate.flush()])
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
