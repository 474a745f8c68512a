"""Tests of images that Pillow opens: they become RGB, and transparency lies on the background before any resize."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harness.photographs import encoded, photograph, png_file
from pipeline.config import DROP_TRANSPARENCY
from pipeline.images.decode import decode
from pipeline.records import Transform
from tests.support.decode_bench import TRANSFORM
from tests.support.image_files import chunk, png, webp

ON_WHITE = replace(TRANSFORM, formats=("JPEG", "PNG", "WEBP", "GIF", "AVIF"))
MODES = [replace(ON_WHITE, decode=decode) for decode in ("fast", "exact")]
CAT = photograph("cat").resize((300, 200))

Pixels = NDArray[np.uint8]


def pixels(file: bytes, transform: Transform, background: str = "white") -> Pixels:
    return decode(memoryview(file), replace(transform, background=background), 1_000_000)


def cut_out() -> Image.Image:
    """Return the cat within a soft ellipse, on a ground that is transparent and black below."""
    mask = Image.new("L", (1200, 800))
    ImageDraw.Draw(mask).ellipse((120, 80, 1080, 720), fill=255)
    image = CAT.convert("RGBA")
    image.putalpha(mask.resize(CAT.size, Image.Resampling.LANCZOS))
    image.paste((0, 0, 0, 0), mask=image.getchannel("A").point(lambda alpha: 255 * (alpha == 0)))
    return image


def laid_on(image: Image.Image, colour: str) -> Image.Image:
    ground = Image.new("RGBA", image.size, colour)
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


FILES = {
    "png rgba": png(cut_out()),
    "png grey and alpha": png(cut_out().convert("LA")),
    "webp lossless": webp(cut_out(), lossless=True, exact=True),
    "webp": webp(cut_out(), quality=100),
    "avif": encoded(cut_out(), "AVIF", quality=100, subsampling="4:4:4"),
}


@pytest.mark.parametrize("transform", MODES, ids=["fast", "exact"])
@pytest.mark.parametrize("colour", ["white", "#204060"])
@pytest.mark.parametrize("name", FILES)
def test_transparent_pixels_lie_on_the_background(name: str, colour: str, transform: Transform) -> None:
    opened = Image.open(io.BytesIO(FILES[name]))
    found = pixels(FILES[name], transform, background=colour)
    expected = pixels(png(laid_on(opened, colour)), transform)
    assert np.abs(found.astype(int) - expected).max() <= 1  # Pillow rounds in two ways


@pytest.mark.parametrize("transform", MODES, ids=["fast", "exact"])
@pytest.mark.parametrize("name", FILES)
def test_drop_shows_what_lies_under_transparency(name: str, transform: Transform) -> None:
    under = Image.open(io.BytesIO(FILES[name])).convert("RGB")
    np.testing.assert_array_equal(
        pixels(FILES[name], transform, background=DROP_TRANSPARENCY), pixels(png(under), transform)
    )


@pytest.mark.parametrize("transform", MODES, ids=["fast", "exact"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_photograph_is_the_same_on_every_background(mode: str, transform: Transform) -> None:
    file, opaque = png(CAT.convert(mode)), png(CAT.convert(mode).convert("RGB"))
    for background in ("white", "#123456", DROP_TRANSPARENCY):
        np.testing.assert_array_equal(pixels(file, transform, background=background), pixels(opaque, transform))


def _with_transparency(file: bytes, colour: bytes) -> bytes:
    return file[:33] + chunk(b"tRNS", colour) + file[33:]


def _half(depth: int, colour: int, one: int, other: int) -> bytes:
    """Return a PNG of 64 x 64, its upper half of one value and its lower half of the other."""
    channels = 3 if colour == 2 else 1

    def row(value: int) -> bytes:
        bits = format(value, f"0{depth}b") * channels * 64
        return b"\0" + int(bits, 2).to_bytes(len(bits) // 8)

    return png_file((64, 64), [row(one)] * 32 + [row(other)] * 32, depth=depth, colour=colour)


@pytest.mark.parametrize(
    ("depth", "colour", "one", "other"),
    [
        (1, 0, 1, 0),
        (1, 0, 0, 1),
        (2, 0, 1, 2),
        (4, 0, 5, 9),
        (8, 0, 90, 91),
        (16, 0, 4000, 4001),
        (8, 2, 7, 8),
        (16, 2, 5000, 9000),
    ],
)
def test_one_transparent_colour_of_grey_or_rgb_lies_on_the_background(
    depth: int, colour: int, one: int, other: int
) -> None:
    """Pixels of the one transparent colour show the background.

    The colour is compared at the file's own bit depth, because 16-bit grey and depths below 8 are decoded to another
    scale.
    """
    plain = _half(depth, colour, one, other)
    file = _with_transparency(plain, struct.pack(">H", one) * (3 if colour == 2 else 1))
    found = pixels(file, MODES[1], background="red")
    assert (found[:90] == (255, 0, 0)).all()
    np.testing.assert_array_equal(found[135:], pixels(plain, MODES[1])[135:])
    np.testing.assert_array_equal(pixels(file, MODES[1], background=DROP_TRANSPARENCY), pixels(plain, MODES[1]))


def test_a_palette_with_transparency_lies_on_the_background() -> None:
    image = cut_out()
    indices = image.convert("RGB").quantize(200)
    transparent = Image.new("P", indices.size, 255)
    transparent.putpalette([*(indices.getpalette() or []), *bytes(768)][:768])
    transparent.paste(indices, mask=image.getchannel("A").point(lambda alpha: 255 * (alpha > 0)))
    expected = laid_on(indices.convert("RGBA"), "white")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(expected, mask=image.getchannel("A").point(lambda alpha: 255 * (alpha > 0)))
    for file in (png(transparent, transparency=255), encoded(transparent, "GIF", transparency=255)):
        found = pixels(file, MODES[1])
        assert np.abs(found.astype(int) - pixels(png(ground), MODES[1])).mean() < 0.1
