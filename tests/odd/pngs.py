"""Valid PNGs of every colour type, depth and interlacing."""

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.photographs import encoded
from tests.odd.odd_file import OddFile, answered
from tests.odd.seeds import cat, cut_out, flower, grey, on_white, samples
from tests.support.png_writer import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, png, split

DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_MODES = {GREY: "L", RGB: "RGB", GREY_ALPHA: "LA", RGB_ALPHA: "RGBA"}
NAMES = {GREY: "grey", RGB: "RGB", PALETTE: "palette", GREY_ALPHA: "grey and alpha", RGB_ALPHA: "RGB and alpha"}


def pngs() -> Iterator[OddFile]:
    """Yield files that must be answered."""
    for colour, depths in DEPTHS.items():
        for depth, interlaced in itertools.product(depths, (False, True)):
            values, before, picture = _coloured(colour, depth)
            name = f"{NAMES[colour]}, {depth} bits{', interlaced' if interlaced else ''}"
            file = png(values, colour, depth=depth, interlaced=interlaced, before=before)
            yield answered("PNG of any depth", name, file, picture)
    for width, height in ((1, 1), (1, 9), (9, 1), (2, 3), (5, 5), (300, 2)):
        image = cat().resize((width, height))
        for interlaced in (False, True):
            file = png(samples(image), RGB, interlaced=interlaced, filters=(0, 1))
            yield answered("PNG of any size", f"{width} x {height}{', interlaced' if interlaced else ''}", file, image)
    yield from _pixels_in_pieces()


def _coloured(colour: int, depth: int) -> tuple[NDArray[Any], list[tuple[bytes, bytes]], Image.Image]:
    """Return the samples, the palette if there is one, and the picture that they show."""
    if colour == PALETTE:
        image = cat().quantize(2**depth)
        colours = bytes(image.getpalette() or ())[: 3 * 2**depth]
        return samples(image), [(b"PLTE", colours)], image.convert("RGB")
    values = samples(cut_out().convert(_MODES[colour]) if "A" in _MODES[colour] else cat().convert(_MODES[colour]))
    if depth == 16:
        return values.astype(np.uint16) * 257, [], on_white(_image(values))
    most = 2**depth - 1
    few = np.rint(values / 255 * most).astype(np.uint8)
    return few, [], on_white(_image((few.astype(int) * 255 // most).astype(np.uint8)))


def _image(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values.squeeze()).astype(np.uint8))


def _pixels_in_pieces() -> Iterator[OddFile]:
    kind, file = "PNG with its pixels in pieces", png(samples(cat()), RGB, filters=(0, 1, 1))
    yield answered(kind, "IDAT of 3 bytes", split(file, itertools.repeat(3)), cat())
    yield answered(kind, "empty IDAT between", split(file, itertools.cycle((0, 100))), cat())
    yield answered(kind, "IDAT of 700 bytes", split(file, itertools.repeat(700)), cat())
    stored = zlib.compress(zlib.decompress(_data(file)), 0)
    yield answered(kind, "not compressed", file.replace(_whole(file), _chunk(stored)), cat())
    animated = encoded(cat(), "PNG", save_all=True, append_images=[flower()], duration=50)
    yield answered("PNG, animated", "the first picture counts", animated, cat())
    first = encoded(flower(), "PNG", save_all=True, append_images=[cat()], default_image=True)
    yield answered("PNG, animated", "the default image counts", first, flower())
    yield answered("PNG of any depth", "1 bit of Pillow's", encoded(grey().convert("1"), "PNG"), grey().convert("1"))


def _data(file: bytes) -> bytes:
    return _whole(file)[8:-4]


def _whole(file: bytes) -> bytes:
    at = file.index(b"IDAT") - 4
    return file[at : at + 12 + struct.unpack_from(">I", file, at)[0]]


def _chunk(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
