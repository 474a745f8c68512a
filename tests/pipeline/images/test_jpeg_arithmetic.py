"""Tests of JPEGs in arithmetic coding: whole ones are decoded, truncated ones refused, though libjpeg does not warn."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UndecodableImage, UnsupportedFormat
from pipeline.images.decode import decode
from pipeline.images.header import read_header
from pipeline.images.jpeg import decode_jpeg
from tests.support.arithmetic_jpegs import ARITHMETIC
from tests.support.decode_bench import EXACT, TRANSFORM

END = b"\xff\xd9"
MODES = [TRANSFORM, EXACT]
NAMED = [name for name in ARITHMETIC if name != "cmyk"]
"""Files whose sampling has a name in TurboJPEG."""


@pytest.mark.parametrize("name", NAMED)
def test_a_whole_one_is_decoded_as_pillow_does(name: str) -> None:
    file = ARITHMETIC[name]
    expected = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    header = read_header((file,), ("JPEG",))
    for odd in (file, file[:-2], file + b"garbage", file[:-2] + bytes(100) + END):
        np.testing.assert_array_equal(decode_jpeg(memoryview(odd), header, 1), expected)
        decode_jpeg(memoryview(odd), header, 4)


@pytest.mark.parametrize("name", NAMED)
def test_one_that_is_cut_off_is_refused_in_both_modes(name: str) -> None:
    """A truncated arithmetic-coded JPEG is refused in both modes; its decoder would go on with zeros."""
    file = ARITHMETIC[name]
    start = file.rindex(b"\xff\xda") + 14
    for share in (0.0,) if name == "progressive" else (0.1, 0.4, 0.7):  # its last scan has only a few bytes
        cut = file[: start + int(share * (len(file) - start))]
        for transform in MODES:
            for odd in (cut, cut + END):
                with pytest.raises(UndecodableImage, match="rows could be read"):
                    decode(memoryview(odd), transform, 1_000_000)


@pytest.mark.parametrize("name", NAMED)
def test_one_that_says_another_height_is_refused(name: str) -> None:
    file = ARITHMETIC[name]
    height = next(at for at in range(len(file)) if file[at] == 0xFF and file[at + 1] in (0xC9, 0xCA)) + 5
    for other in (200, 8):
        odd = file[:height] + other.to_bytes(2) + file[height + 2 :]
        with pytest.raises(UndecodableImage, match=f"of {other} rows could be read"):
            decode(memoryview(odd), EXACT, 1_000_000)


def test_one_of_a_sampling_without_a_name_is_named_in_both_modes() -> None:
    """An arithmetic-coded JPEG with an unnamed sampling is refused in both modes.

    Pillow would decode only files below 64 kB.
    """
    for transform in MODES:
        with pytest.raises(UnsupportedFormat, match="JPEG in arithmetic coding and of an odd sampling"):
            decode(memoryview(ARITHMETIC["cmyk"]), transform, 1_000_000)
