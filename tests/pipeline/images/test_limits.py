"""Tests of the limits on cost: images and requests that cost too much are refused by their headers, with the reason."""

from dataclasses import replace

import pytest

from deployments.admission import check_request
from deployments.live_config import LiveConfig
from deployments.request_errors import RequestTooCostly
from harness.costly_images import (
    COSTLY_FILES,
    dense_jpeg,
    lossless_webp,
    paeth_png,
    png_of_many_chunks,
    progressive_jpeg,
)
from harness.photographs import jpeg, photograph
from pipeline.errors import ImageTooCostly, TooManyPixels
from pipeline.images.header import MAX_COUNTED_CHUNKS, read_header
from pipeline.images.limits import check_image
from pipeline.records import Transform
from tests.support.decode_bench import EXACT, TRANSFORM

LIVE = LiveConfig()


def check(file: bytes, transform: Transform = TRANSFORM, max_work_s: float = LIVE.max_image_work_s) -> float:
    header = read_header([file], transform.formats)
    return check_image(header, transform, LIVE.max_image_pixels, max_work_s)


@pytest.mark.parametrize("name", COSTLY_FILES)
def test_costly_files_are_within_the_limits(name: str) -> None:
    """The costly files of other tests are within the limits, but close to them."""
    assert 0.05 < check(COSTLY_FILES[name]()) <= LIVE.max_image_work_s


def test_a_photograph_of_the_largest_size_is_within_the_limits() -> None:
    """The largest photographs are within the limits: as a JPEG in both modes, and as a PNG of half the pixels."""
    header = read_header([jpeg(photograph("cat"))], TRANSFORM.formats)
    large = replace(header, width=8160, height=6120, bytes=12 << 20)
    for transform in (TRANSFORM, EXACT):
        assert check_image(large, transform, LIVE.max_image_pixels, LIVE.max_image_work_s) > 0.1
    png = replace(header, format="PNG", coding="plain", width=6000, height=4000, bytes=12 << 20)
    assert check_image(png, TRANSFORM, LIVE.max_image_pixels, LIVE.max_image_work_s) > 0.1


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (progressive_jpeg((7040, 7040), 3, 13), "a JPEG of 7040 x 7040 pixels, 3 channels, progressive, 43 scans"),
        (progressive_jpeg((7040, 7040), 3, 13), "limit is 0.5 s (max_image_work_s): .* or as a baseline JPEG"),
        (progressive_jpeg((64, 64), 1, 13, bands=63), "more than 500 scans, the limit"),
        (lossless_webp((7000, 7000)), "a WEBP of 7000 x 7000 pixels, 3 channels, lossless would take 0.7"),
        (paeth_png((7000, 7000)), "a PNG of 7000 x 7000 pixels, 3 channels would .* fewer pixels, or as a JPEG"),
        (paeth_png((4500, 4500), depth=16, colour=6, interlaced=True), "4 channels of 16 bits, interlaced"),
        (png_of_many_chunks((8, 8), MAX_COUNTED_CHUNKS), "the PNG consists of 10000 chunks or more; the limit is 9999"),
    ],
    ids=range(7),
)
def test_what_costs_too_much_is_refused_with_its_reason(file: bytes, says: str) -> None:
    says = says.replace("(max_image_work_s)", r"\(max_image_work_s\)")
    with pytest.raises(ImageTooCostly, match=says):
        check(file)


def test_the_limit_in_force_holds() -> None:
    """The current limit applies, and only files with a simpler coding are advised to use it."""
    file = dense_jpeg((1200, 1200), 1)
    with pytest.raises(ImageTooCostly, match=r"the limit is 0.001 s .*with fewer pixels$"):
        check(file, max_work_s=0.001)
    assert check(file, max_work_s=0.1) < 0.01


def test_pixels_are_bounded_whatever_they_cost() -> None:
    with pytest.raises(TooManyPixels, match=r"7200 x 7000 = 50400000 pixels; the limit is 50000000 \(max_image_pixels"):
        check(paeth_png((7200, 7000), depth=1, colour=0))


def test_the_images_of_a_request_are_bounded_together() -> None:
    check_request([0.5] * 40, 20)
    check_request([], 20)
    with pytest.raises(RequestTooCostly, match=r"the 41 images .* 20.5 s .* limit is 20 s \(max_request_work_s\)"):
        check_request([0.5] * 41, 20)
