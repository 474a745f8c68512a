"""Tests of damaged WebPs: only the first picture can cost the image."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from harness.photographs import photograph
from pipeline.errors import TooManyPixels, UndecodableImage
from pipeline.images.decode import decode
from pipeline.images.webp import pixels_of_webp
from tests.support.decode_bench import EXACT
from tests.support.image_files import ODD_BUT_GOOD, webp, with_orientation

CAT = photograph("cat").resize((90, 60))
KINDS = {
    "lossy": webp(CAT),
    "lossless": webp(CAT, lossless=True),
    "alpha": webp(CAT.convert("RGBA").rotate(9)),
    "animated": webp(CAT, save_all=True, append_images=[CAT.rotate(90), CAT.rotate(180)]),
}


def part(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


def riff(*parts: bytes) -> bytes:
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pixels(file: bytes) -> np.ndarray:
    return decode(memoryview(file), EXACT, 1_000_000)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "odd",
    [
        part(b"ICCP", b"garbage"),
        part(b"EXIF", b"garbage"),
        part(b"XMP ", b"garbage"),
        part(b"QQQQ", bytes(5)),
        part(b"EXIF", b"odd")[:-1],
        b"\xff\xff",
        b"EXIF\xff\xff\xff\xff",
    ],
    ids=["ICC", "Exif", "XMP", "unknown", "odd length without padding", "two bytes", "cut off"],
)
def test_what_the_picture_does_not_need_costs_no_image(name: str, odd: bytes) -> None:
    file = KINDS[name]
    size = struct.pack("<I", len(file) + len(odd) - 8)
    for odd_file in (file + odd, file[:4] + size + file[8:] + odd):
        np.testing.assert_array_equal(pixels(odd_file), pixels(file))
    if file[12:16] == b"VP8X" and not odd.startswith((b"\xff", b"EXIF\xff")):
        np.testing.assert_array_equal(pixels(file[:30] + odd + file[30:]), pixels(file))


def test_a_size_that_is_too_small_or_too_large_costs_no_image() -> None:
    for size in (0, 20, 1 << 31):
        file = KINDS["lossy"]
        np.testing.assert_array_equal(pixels(file[:4] + struct.pack("<I", size) + file[8:]), pixels(file))


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_that_is_cut_off_is_damage(name: str) -> None:
    file = KINDS[name]
    first = (
        len(file)
        if name != "animated"
        else file.index(b"ANMF") + 8 + struct.unpack_from("<I", file, file.index(b"ANMF") + 4)[0]
    )
    for end in (first - 3, first // 2):
        with pytest.raises(UndecodableImage, match=r"the image is damaged: \d+ of \d+ bytes of its pixels are there"):
            pixels(file[:end])


def test_of_an_animation_only_the_first_picture_counts() -> None:
    file = KINDS["animated"]
    left, _ = pixels_of_webp(memoryview(file))
    assert left.count(b"ANMF") == 1 if isinstance(left, bytes) else False
    np.testing.assert_array_equal(pixels(file[: file.rindex(b"ANMF") + 60]), pixels(file))


@pytest.mark.parametrize("name", [name for name in ODD_BUT_GOOD if name.startswith("webp")])
def test_what_is_left_shows_the_same_pixels(name: str) -> None:
    file = ODD_BUT_GOOD[name]
    left, _ = pixels_of_webp(memoryview(file))
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")) for data in (file, left))
    np.testing.assert_array_equal(one, other)


def test_the_orientation_is_found_behind_the_pixels() -> None:
    file = with_orientation(CAT, 6, "WEBP")
    np.testing.assert_array_equal(pixels(file), pixels(webp(CAT, lossless=True)))


def test_a_canvas_is_checked_before_it_is_made() -> None:
    """The size of a WebP's canvas is checked before Pillow opens the file and allocates it."""
    canvas = b"\x02\0\0\0" + struct.pack("<I", 16_000 - 1)[:3] * 2
    with pytest.raises(TooManyPixels, match="16000 x 16000"):
        pixels(riff(part(b"VP8X", canvas), part(b"ANIM", bytes(6)), part(b"ANMF", bytes(30))))
