"""Photographs in every kind of file.

png(image), webp(image)     the picture as a file, bytes; options go to Pillow's `save`
with_orientation(image, 6)  a file with an EXIF orientation, 1 to 8; upright, it is `image` again
slow_png()                  31 megapixels in few bytes, whose decoding is slow enough for a test to act meanwhile

segment(0xE2, body), chunk(b"tEXt", body)
                            a segment of a JPEG, a chunk of a PNG
lossless_jpeg(size)         a flat grey, which libjpeg cannot decode at a part of its size

ODD_BUT_GOOD                files of the cat that must give a prediction: CMYK, palettes, 16 bits, animations, ...
BAD                         files that must be rejected, each with the class of its error
"""

import functools
import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Transpose

from harness.photographs import RGB, encoded, jpeg, photograph, png_file
from pipeline.errors import EmptyImage, ImageError, TooManyPixels, UndecodableImage, UnsupportedFormat

_ORIENTATION_TAG = 0x0112
_AS_STORED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
"""Transposition by which a camera stores an upright scene, by EXIF orientation: the inverse of a viewer's."""


def png(image: Image.Image, **options: Any) -> bytes:
    """Return the picture as a lossless PNG."""
    return encoded(image, "PNG", **options)


def webp(image: Image.Image, **options: Any) -> bytes:
    """Return the picture as a WebP, e.g. with `lossless=True`."""
    return encoded(image, "WEBP", **options)


def with_orientation(image: Image.Image, orientation: int, file_format: str = "JPEG") -> bytes:
    """Return a file whose pixels lie as a rotated camera stores them; upright, the picture is `image`."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    stored = image.transpose(_AS_STORED[orientation]) if orientation in _AS_STORED else image
    lossless = {"lossless": True} if file_format == "WEBP" else {}
    return encoded(stored, file_format, exif=exif, **lossless)


def as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the pixels of an upright scene as a camera stores them with an EXIF orientation."""
    return upright if orientation == 1 else np.asarray(Image.fromarray(upright).transpose(_AS_STORED[orientation]))


@functools.cache
def slow_png() -> bytes:
    """Return 5600 x 5600 pixels in 0.4 MB: slow enough to act during its decoding, and fast enough to be allowed."""
    return png(Image.new("RGB", (5600, 5600), "teal"), compress_level=1)


# ---- files that Pillow does not write -------------------------------------------------------------------------------

_GREY = 0  # a colour type of PNG

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""x, y, step in x, step in y of the seven passes of an interlaced PNG."""


def segment(marker: int, body: bytes = b"") -> bytes:
    """Return a segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def chunk(name: bytes, body: bytes = b"") -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def lossless_jpeg(size: tuple[int, int], channels: int = 3) -> bytes:
    """Return a lossless JPEG (ITU-T T.81, annex H) of samples of 128: every difference is the one-bit code 0."""
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, channels + 1))
    frame = struct.pack(">BHHB", 8, size[1], size[0], channels) + components
    table = b"\0" + bytes((1, 1, *[0] * 14)) + b"\0\7"
    scan = bytes((channels,)) + b"".join(bytes((number, 0)) for number in range(1, channels + 1)) + b"\1\0\0"
    bits = size[0] * size[1] * channels
    pixels = bytes(bits // 8) + (bytes((0xFF >> bits % 8,)) if bits % 8 else b"")
    start = b"\xff\xd8" + segment(0xC3, frame) + segment(0xC4, table) + segment(0xDA, scan)
    return start + pixels + b"\xff\xd9"


def _rows(pixels: NDArray[Any]) -> Iterator[bytes]:
    """Return unfiltered rows, each with a zero before it."""
    return (b"\0" + row.tobytes() for row in pixels)


def interlaced_png(image: Image.Image) -> bytes:
    """Return the picture in the seven passes of Adam7."""
    pixels = np.asarray(image)
    passes = (_rows(pixels[y::down, x::across]) for x, y, across, down in _ADAM7 if x < image.width)
    return png_file(image.size, itertools.chain(*passes), interlaced=True)


def png_16_bit(image: Image.Image) -> bytes:
    """Return the picture with 16 bits a channel, grey or RGB: 257 times the 8-bit value, so that white stays white."""
    colour = _GREY if image.mode == "L" else RGB
    return png_file(image.size, _rows((np.asarray(image).astype(">u2") * 257).astype(">u2")), depth=16, colour=colour)


def _with_corrupt_exif(image: Image.Image) -> bytes:
    """Return a file with an APP1 segment whose directory points past its end."""
    body = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\x7f\xff\xff\xff\x7f" * 3
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    file = jpeg(image)
    return file[:2] + segment + file[2:]


def _palette_with_transparency(image: Image.Image) -> bytes:
    return png(image.quantize(64), transparency=bytes(range(64)))


def _odd_but_good(image: Image.Image) -> dict[str, bytes]:
    grey, others = image.convert("L"), [image.transpose(Transpose.FLIP_LEFT_RIGHT)]
    return {
        "jpeg progressive": jpeg(image, progressive=True),
        "jpeg grey": jpeg(grey),
        "jpeg cmyk": jpeg(image.convert("CMYK")),
        "jpeg of two pictures": encoded(image, "MPO", save_all=True, append_images=others, quality=90),
        "jpeg with corrupt exif": _with_corrupt_exif(image),
        "jpeg with bytes behind it": jpeg(image) + b"\0" * 1000,
        "png palette": png(image.quantize(256)),
        "png palette with transparency": _palette_with_transparency(image),
        "png grey 16 bit": png_16_bit(grey),
        "png rgb 16 bit": png_16_bit(image),
        "png grey with alpha": png(image.convert("LA")),
        "png rgb with alpha": png(image.convert("RGBA")),
        "png 1 bit": png(image.convert("1")),
        "png interlaced": interlaced_png(image),
        "png animated": png(image, save_all=True, append_images=others),
        "png with corrupt exif": png(image, exif=b"Exif\0\0this is no directory"),
        "webp with corrupt exif": webp(image, quality=90, exif=b"Exif\0\0this is no directory"),
        "webp lossy": webp(image, quality=90),
        "webp lossless": webp(image, lossless=True),
        "webp with alpha": webp(image.convert("RGBA"), quality=90),
        "webp animated": webp(image, save_all=True, append_images=others, quality=90),
    }


def _bad(image: Image.Image) -> dict[str, tuple[bytes, type[ImageError]]]:
    files = {"jpeg": jpeg(image), "png": png(image), "webp": webp(image)}
    truncated = {f"{kind} truncated": (file[: len(file) // 2], UndecodableImage) for kind, file in files.items()}
    headless = {f"{kind} with a damaged header": (_headless(file), UndecodableImage) for kind, file in files.items()}
    return {
        "empty": (b"", EmptyImage),
        "text": (b"Not an image: a letter to the editor, of a few dozen bytes.\n", UnsupportedFormat),
        "html": (b"<!doctype html><title>404 Not Found</title><p>There is no picture here.", UnsupportedFormat),
        "tiff": (encoded(image, "TIFF"), UnsupportedFormat),
        "gif": (encoded(image, "GIF"), UnsupportedFormat),
        "avif": (encoded(image, "AVIF"), UnsupportedFormat),
        **truncated,
        **headless,
        "png without a pixel": (png_file((0, 0), ()), UndecodableImage),
        "png bomb": (png_file((50_000, 50_000), ()), TooManyPixels),
    }


def _headless(file: bytes) -> bytes:
    """Return the first twenty bytes of a file, which tell its format, and then random bytes."""
    return file[:20] + b"\xa5" * 200


ODD_BUT_GOOD: dict[str, bytes] = _odd_but_good(photograph("cat"))
"""Files of the cat that must be predicted, by their oddity."""

BAD: dict[str, tuple[bytes, type[ImageError]]] = _bad(photograph("cat"))
"""Files that must be rejected when JPEG, PNG and WEBP are served, by their fault, with the class of the error."""
