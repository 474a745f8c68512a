"""JPEGs in colour, at a part of their size: pixel for pixel what Pillow makes of them."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import NAMES, jpeg, photograph
from pipeline.jpeg import part_of, reduced_jpeg
from tests.files import ODD_BUT_GOOD, png


def _header(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("part", [1, 2, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_every_part_equals_pillows(name: str, part: int) -> None:
    """Also where neither side can be divided by it."""
    file = jpeg(photograph(name).resize((1023, 769)))
    pillows = _header(file)
    pillows.draft("RGB", (1023 // part, 769 // part))
    found = reduced_jpeg(memoryview(file), _header(file), part)
    assert found is not None
    np.testing.assert_array_equal(found, np.asarray(pillows))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"keep_rgb": True}])
def test_so_does_every_kind(options: dict[str, int]) -> None:
    file = jpeg(photograph("cat"), **options)
    found = reduced_jpeg(memoryview(file), _header(file), 1)
    assert found is not None
    np.testing.assert_array_equal(found, np.asarray(_header(file)))


def test_the_part_is_that_of_pillows_draft() -> None:
    """The smallest that is no smaller than what is wanted."""
    for width in range(1, 2300, 13):
        file = jpeg(Image.new("RGB", (width, 600)))
        image = _header(file)
        image.draft("RGB", (256, 256))
        part = part_of((width, 600), (256, 256))
        assert image.size == (-(-width // part), -(-600 // part))


@pytest.mark.parametrize(
    "file",
    [png(photograph("cat")), jpeg(photograph("cat").convert("L")), jpeg(photograph("cat").convert("CMYK"))],
    ids=["no JPEG", "grey", "CMYK"],
)
def test_what_is_no_jpeg_in_colour_is_left_to_pillow(file: bytes) -> None:
    assert reduced_jpeg(memoryview(file), _header(file), 1) is None


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_damaged_one_is_left_to_pillow(kept: float) -> None:
    file = jpeg(photograph("cat"))
    cut = file[: int(kept * len(file))]
    assert reduced_jpeg(memoryview(cut), _header(cut), 1) is None


def test_of_two_pictures_the_first_counts() -> None:
    file = ODD_BUT_GOOD["jpeg of two pictures"]
    assert _header(file).format == "MPO"
    found = reduced_jpeg(memoryview(file), _header(file), 1)
    assert found is not None
    np.testing.assert_array_equal(found, np.asarray(_header(file)))
