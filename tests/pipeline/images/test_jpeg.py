"""Tests of JPEGs that are decoded at a part of their size: Pillow's pixels, in no more memory than planned."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.photographs import NAMES, jpeg, photograph
from pipeline.errors import TooManyPixels, UndecodableImage, UnsupportedFormat
from pipeline.images.geometry import MIN_REDUCED_TO_TARGET_RATIO, dct_scale, resized, scales
from pipeline.images.header import read_header
from pipeline.images.jpeg import decode_jpeg, metadata_of_jpeg
from tests.support.image_files import ODD_BUT_GOOD, lossless_jpeg, segment, with_orientation

Pixels = NDArray[np.uint8]


def decoded(data: bytes, part: int = 1) -> Pixels:
    return decode_jpeg(memoryview(data), read_header((data,), ("JPEG",)), part)


def by_pillow(data: bytes, part: int = 1) -> Pixels:
    image = Image.open(io.BytesIO(data))
    image.draft(None, (image.width // part, image.height // part))
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("part", [1, 2, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_every_part_equals_pillows(name: str, part: int) -> None:
    """A JPEG decoded at a part of its size equals Pillow's, also where a side is not divisible."""
    file = jpeg(photograph(name).resize((1023, 769)))
    np.testing.assert_array_equal(decoded(file, part), by_pillow(file, part))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"keep_rgb": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("part", [1, 2, 8])
def test_so_does_every_kind(mode: str, options: dict[str, int], part: int) -> None:
    """Every kind of JPEG equals Pillow's, also a CMYK sampling that simplejpeg has no name for."""
    for more in ({}, {"subsampling": 1}):
        file = jpeg(photograph("cat").convert(mode), **(more if mode == "CMYK" else options))
        np.testing.assert_array_equal(decoded(file, part), by_pillow(file, part))


def test_of_two_pictures_the_first_counts() -> None:
    file = ODD_BUT_GOOD["jpeg of two pictures"]
    np.testing.assert_array_equal(decoded(file), by_pillow(file))


@pytest.mark.parametrize("resize_px", [224, 232, 256, 384, 600])
def test_a_reduced_image_keeps_a_ratio_to_the_resize(resize_px: int) -> None:
    """The smallest size is decoded that still keeps the least ratio to the resize, at every size and orientation."""
    for short in range(1, 8 * 1024, 7):
        for size in ((short, short), (short, short * 4 // 3 + 1), (short * 16 // 9 + 1, short)):
            target = resized(*size, resize_px)
            ratios = {part: short / part / resize_px for part in (1, 2, 4, 8)}
            allowed = [part for part, ratio in ratios.items() if part == 1 or ratio >= MIN_REDUCED_TO_TARGET_RATIO]
            assert dct_scale(size, target) == max(allowed), size


def test_common_sizes_are_decoded_whole_and_those_of_telephones_at_a_half() -> None:
    for size in ((512, 512), (540, 960), (1024, 1024), (1920, 1080), (2048, 2048), (3840, 2160)):
        assert dct_scale(size, resized(*size, 256)) == 1, size
    for size in ((4032, 3024), (3024, 4032), (4000, 3000), (3968, 2976)):
        assert dct_scale(size, resized(*size, 256)) == 2, size
    assert dct_scale((8064, 6048), resized(8064, 6048, 256)) == 4


# ---- codings that libjpeg cannot scale ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(512, 512), (640, 601), (1, 1), (40, 700)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_one_is_decoded_whole(size: tuple[int, int], channels: int) -> None:
    """A lossless JPEG is decoded whole.

    At a part of its size, simplejpeg would write beyond the memory for that part.
    """
    file = lossless_jpeg(size, channels)
    assert not scales(read_header((file,), ("JPEG",)))
    np.testing.assert_array_equal(decoded(file), np.full((size[1], size[0], 3), 128))
    np.testing.assert_array_equal(decoded(file), by_pillow(file))


def test_a_lossless_one_whose_colours_would_have_to_be_converted_is_named() -> None:
    file = lossless_jpeg((60, 40))
    in_ycbcr = file[:2] + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + file[2:]
    with pytest.raises(UnsupportedFormat, match=r"\(lossless JPEG in other colours than RGB or grey\)"):
        decoded(in_ycbcr)


@pytest.mark.parametrize(("size", "part"), [((900, 600), 1), ((120, 80), 1), ((120, 80), 8)])
def test_a_header_of_another_size_is_refused_before_anything_is_written(size: tuple[int, int], part: int) -> None:
    """A header with another size than simplejpeg finds is refused before any pixel is written."""
    file = jpeg(photograph("cat").resize((300, 200)))
    other = replace(read_header((file,), ("JPEG",)), width=size[0], height=size[1])
    with pytest.raises(UndecodableImage):
        decode_jpeg(memoryview(file), other, part)


def test_more_bytes_than_simplejpeg_can_count_are_refused() -> None:
    """An image of more than 2^31 - 1 bytes is refused, because simplejpeg counts in 32 bits."""
    file = jpeg(photograph("cat").resize((30, 20)))
    header = replace(read_header((file,), ("JPEG",)), width=40_000, height=40_000)
    with pytest.raises(TooManyPixels, match="4800000000 bytes; the limit is 2147483647"):
        decode_jpeg(memoryview(file), header, 1)


# ---- metadata -------------------------------------------------------------------------------------------------------


def test_exif_and_xmp_are_found_and_exif_is_joined() -> None:
    file = with_orientation(photograph("cat"), 6)
    exif = metadata_of_jpeg(memoryview(file)).exif
    assert exif.startswith(b"Exif\0\0")
    parts = segment(0xE1, exif[:20]) + segment(0xE1, b"Exif\0\0" + exif[20:])
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"
    found = metadata_of_jpeg(memoryview(file[:2] + parts + segment(0xE1, xmp) + jpeg(photograph("cat"))[2:]))
    assert (found.exif, found.xmp) == (exif, xmp)


@pytest.mark.parametrize(
    "odd",
    [
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"MPF\0garbage"),
        segment(0xED, b"Photoshop 3.0\0" + bytes(9)),
        segment(0xEE, b"Adobe"),
        segment(0xE0, b"JFIF"),
        segment(0xE0, b"JFIF\0\x07" + bytes(8)),
        segment(0xE1, b"Exif\0\0garbage"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
        segment(0xFE, b"\xff\xda\xff\xd9"),
        segment(0xFE) * 500,
        b"\0\1\2",
    ],
    ids=lambda odd: odd[4:20].decode("ascii", "replace"),
)
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_no_segment_that_pixels_do_not_need_costs_the_image(odd: bytes, mode: str) -> None:
    file = jpeg(photograph("cat").convert(mode))
    first = file[: 4 + struct.unpack_from(">H", file, 4)[0]]  # the file's own colour marker comes first
    np.testing.assert_array_equal(decoded(first + odd + file[len(first) :]), by_pillow(file))


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_an_unknown_colour_transform_is_taken_as_libjpeg_takes_it(mode: str) -> None:
    """An unknown colour transform is taken for the usual one, as in libjpeg. Its warning must not reject the image."""
    file = jpeg(photograph("cat").convert(mode))
    unknown = segment(0xEE, b"Adobe\0\x64" + bytes(4) + b"\x09")
    at = 2 if mode == "RGB" else 18  # behind the file's own marker, which says that there is no transform
    odd = file[:at] + unknown + file[at:]
    np.testing.assert_array_equal(decoded(odd), by_pillow(odd))
