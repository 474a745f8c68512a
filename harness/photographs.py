"""Real photographs, as pictures and as files, for benchmarks and tests.

They come from the installed wheels of scikit-image and scikit-learn; nothing is downloaded. All are upright RGB images:

    photograph("cat")           the picture, PIL.Image.Image; `NAMES` lists all of them
    jpeg(image), encoded(image, "PNG")
                                the picture as a file, bytes; options go to Pillow's `save`
    phone_jpeg()                a JPEG of 4000 x 3000, as from a telephone
    png_file(size, rows)        a PNG with any rows behind any header
"""

import functools
import io
import struct
import zlib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from PIL import Image

_FILES: Final = {
    "cat": ("scikit-image", "skimage/data/chelsea.png"),
    "espresso": ("scikit-image", "skimage/data/coffee.png"),
    "astronaut": ("scikit-image", "skimage/data/astronaut.png"),
    "rocket": ("scikit-image", "skimage/data/rocket.jpg"),
    "temple": ("scikit-learn", "sklearn/datasets/images/china.jpg"),
    "flower": ("scikit-learn", "sklearn/datasets/images/flower.jpg"),
}

NAMES: Final = tuple(_FILES)
"""Names that `photograph` knows."""

RGB: Final = 2
"""A colour type of PNG."""


def original(name: str) -> bytes:
    """Read the original file from its wheel: a PNG, or a JPEG from a camera."""
    package, path = _FILES[name]
    return Path(str(distribution(package).locate_file(path))).read_bytes()


@functools.cache
def photograph(name: str) -> Image.Image:
    """Return a photograph, upright, RGB. The object is shared by all callers: do not draw on it."""
    return Image.open(io.BytesIO(original(name))).convert("RGB")


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """Encode a picture in one of Pillow's formats."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def jpeg(image: Image.Image, **options: Any) -> bytes:
    """Encode a picture as a JPEG, e.g. with `quality=85`, `progressive=True`."""
    return encoded(image, "JPEG", **{"quality": 90, **options})


@functools.cache
def phone_jpeg(name: str = "cat") -> bytes:
    """Make a JPEG of 4000 x 3000, as from a telephone."""
    return jpeg(photograph(name).resize((4000, 3000), Image.Resampling.LANCZOS))


def png_file(
    size: tuple[int, int], rows: Iterable[bytes], *, depth: int = 8, colour: int = RGB, interlaced: bool = False
) -> bytes:
    """Make a PNG from its filtered `rows`, which need not match the header."""
    header, deflate = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced), zlib.compressobj(9)
    pixels = b"".join([*map(deflate.compress, rows), deflate.flush()])
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
