"""The files that are mutated: small pictures in every coding that is or could be served."""

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import simplejpeg
from PIL import Image
from PIL.Image import Transpose

from harness.photographs import encoded, jpeg, photograph, png_file
from tests.support.arithmetic_jpegs import ARITHMETIC
from tests.support.jpeg_segments import SOF1
from tests.support.jpeg_writer import COLOUR_SAMPLINGS, FULL, coded, lossless, progressive, sequential

JPEG: Final = "JPEG"
PNG: Final = "PNG"
WEBP: Final = "WEBP"
OTHERS: Final = ("GIF", "BMP", "AVIF")
FAMILIES: Final = (JPEG, PNG, WEBP, *OTHERS)

_SAMPLINGS: Final = {
    **COLOUR_SAMPLINGS,
    "more chroma": ((1, 1), (2, 1), (1, 2)),
    "grey": ((1, 1),),
    "CMYK": ((2, 1), (1, 1), (1, 2), (2, 2)),
}

_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""x, y, step in x, step in y of the seven passes of an interlaced PNG."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A valid file, or one of a refused kind."""

    family: str
    name: str
    data: bytes


def seeds() -> list[Seed]:
    """Return all seeds, always in the same order."""
    image = photograph("cat").resize((97, 61))
    files = {JPEG: _jpegs(image), PNG: _pngs(image), WEBP: _webps(image), **_others(image)}
    return [Seed(family, name, data) for family, named in files.items() for name, data in named.items()]


def _jpegs(image: Image.Image) -> dict[str, bytes]:
    bands = [(1, 5), (6, 63)]
    square, exif = image.resize((72, 72)), Image.Exif()
    exif[0x0112] = 6
    written = {
        f"{name} {kind}": write(coded(image, factors))
        for name, factors in _SAMPLINGS.items()
        for kind, write in (("baseline", sequential), ("progressive", lambda picture: progressive(picture, bands)))
    }
    turbo = {
        f"simplejpeg {name}": simplejpeg.encode_jpeg(np.array(image), colorsubsampling=name) for name in ("411", "440")
    }
    return (
        written
        | turbo
        | {f"arithmetic {name}": data for name, data in ARITHMETIC.items()}
        | {
            "pillow": jpeg(image, exif=exif, comment=b"a comment", icc_profile=bytes(200)),
            "pillow progressive": jpeg(image, progressive=True, optimize=True),
            "restarts": sequential(coded(image, _SAMPLINGS["4:2:0"]), restart=3),
            "lossless": lossless(square),
            "lossless grey": lossless(square.convert("L")),
            "12 bits": sequential(coded(image, precision=12), marker=SOF1),
            "16 bits lossless": lossless(square, precision=16),
            "DNL": sequential(coded(image), dnl=True),
            "two components": sequential(coded(image.convert("LA"), FULL[:2])),
            "MPO": encoded(image, "MPO", save_all=True, append_images=[image]),
        }
    )


def _pngs(image: Image.Image) -> dict[str, bytes]:
    rgba = image.convert("RGBA")
    rgba.putalpha(image.convert("L"))
    modes = {"L": image.convert("L"), "LA": rgba.convert("LA"), "P": image.quantize(200), "1": image.convert("1")}
    grey = np.asarray(image.convert("L"))
    passes = [grey[y::down, x::across] for x, y, across, down in _ADAM7]
    rows = [b"\1" + row.tobytes() for each in passes for row in each]
    wide, colours = grey.astype(">u2"), np.asarray(image).astype(">u2") * np.array(257, ">u2")
    exif = Image.Exif()
    exif[0x0112] = 5
    return {f"mode {name}": encoded(each, "PNG") for name, each in {**modes, "RGBA": rgba, "RGB": image}.items()} | {
        "P with tRNS": encoded(image.quantize(16), "PNG", transparency=bytes(range(16))),
        "RGB with tRNS": encoded(image, "PNG", transparency=(1, 2, 3)),
        "P of 2 bits": encoded(image.quantize(4), "PNG", bits=2),
        "16 bits": png_file(image.size, [b"\2" + row.tobytes() for row in wide], depth=16, colour=0),
        "16 bits RGB": png_file(image.size, [b"\4" + row.tobytes() for row in colours], depth=16),
        "interlaced": png_file(image.size, rows, colour=0, interlaced=True),
        "animated": encoded(image, "PNG", save_all=True, append_images=[image.transpose(Transpose.ROTATE_180)]),
        "metadata": encoded(image, "PNG", exif=exif, icc_profile=bytes(300), dpi=(72, 72)),
    }  # fmt: skip


def _webps(image: Image.Image) -> dict[str, bytes]:
    rgba = image.convert("RGBA")
    rgba.putalpha(image.convert("L"))
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "lossy": (image, {}),
        "lossless": (image, {"lossless": True}),
        "lossless palette": (image.quantize(16).convert("RGB"), {"lossless": True}),
        "alpha": (rgba, {}),
        "alpha lossless": (rgba, {"lossless": True}),
        "alpha of low quality": (rgba, {"alpha_quality": 20, "method": 6}),
        "metadata": (image, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0", "xmp": b"<x/>", "icc_profile": bytes(200)}),
        "animated": (rgba, {"save_all": True, "append_images": [image], "duration": 100}),
    }
    return {name: encoded(each, WEBP, **options) for name, (each, options) in kinds.items()}


def _others(image: Image.Image) -> dict[str, dict[str, bytes]]:
    rgba = image.convert("RGBA")
    rgba.putalpha(image.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 8
    mirrored = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    return {
        "GIF": {
            "plain": encoded(image, "GIF", interlace=False),
            "interlaced": encoded(image.quantize(7), "GIF", interlace=True),
            "transparent": encoded(image.quantize(32), "GIF", transparency=3),
            "animated": encoded(image, "GIF", save_all=True, append_images=[mirrored, image], disposal=2),
        },
        "BMP": {
            **{mode: encoded(image.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")},
            "RLE8": _rle(1),
            "RLE4": _rle(2),
            "16 bits": _bitfields(),
        },
        "AVIF": {
            "plain": encoded(image, "AVIF", quality=60),
            "grey": encoded(image.convert("L"), "AVIF"),
            "4:4:4": encoded(image, "AVIF", subsampling="4:4:4", exif=exif),
            "alpha": encoded(rgba, "AVIF", quality=40),
            "animated": encoded(image, "AVIF", save_all=True, append_images=[mirrored]),
        },
    }


def _bmp(depth: int, compression: int, colours: int, extra: bytes, data: bytes) -> bytes:
    start = 54 + len(extra)
    info = struct.pack("<IiiHHIIiiII", 40, 32, 24, 1, depth, compression, len(data), 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + extra + data


def _rle(compression: int) -> bytes:
    """Encode with runs, literal runs, moves and line ends (BI_RLE8 is 1, BI_RLE4 2)."""
    line = b"\x0a\1\x06\2\0\4" + bytes(4 >> compression - 1) + b"\0\2\3\0" + b"\5\3\0\0"
    return _bmp(8 >> compression - 1, compression, 16, bytes(range(64)), line * 24 + b"\0\1")


def _bitfields() -> bytes:
    return _bmp(16, 3, 0, struct.pack("<III", 0xF800, 0x07E0, 0x001F), bytes(range(256)) * 6)
