"""JPEGs in colour, at a part of their size: pixel for pixel what Pillow makes of them."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import NAMES, jpeg, photograph
from pipeline.jpeg import LEAST_RATIO, part_of, reduced_jpeg
from pipeline.resize import resized
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


@pytest.mark.parametrize("resize_px", [224, 232, 256, 384, 600])
def test_a_reduced_image_keeps_a_ratio_to_the_resize(resize_px: int) -> None:
    """At every size, on its side or not, also where sides do not divide: the least part that still does."""
    for short in range(1, 8 * 1024, 7):
        for size in ((short, short), (short, short * 4 // 3 + 1), (short * 16 // 9 + 1, short)):
            target = resized(*size, resize_px)
            ratios = {part: short / part / resize_px for part in (1, 4, 8)}
            allowed = [part for part, ratio in ratios.items() if part == 1 or ratio >= LEAST_RATIO]
            assert part_of(size, target) == max(allowed), size


def test_common_sizes_are_decoded_whole_and_those_of_telephones_at_a_quarter() -> None:
    for size in ((512, 512), (540, 960), (1024, 1024), (1920, 1080), (2048, 2048), (3840, 2160)):
        assert part_of(size, resized(*size, 256)) == 1, size
    for size in ((4032, 3024), (3024, 4032), (4000, 3000), (3968, 2976)):
        assert part_of(size, resized(*size, 256)) == 4, size
    assert part_of((8064, 6048), resized(8064, 6048, 256)) == 8


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
