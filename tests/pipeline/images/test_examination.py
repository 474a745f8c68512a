"""Tests of the examination before an image is admitted: it gets a cost, or a rejection."""

import pytest
from PIL import Image

from harness.photographs import jpeg, phone_jpeg, photograph
from pipeline.errors import (
    EmptyImage,
    ImageError,
    ImageTooCostly,
    ImageTooLarge,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
)
from pipeline.images.examination import examine
from pipeline.live_limits import Limits
from pipeline.records import EncodedImage, Rejection
from tests.support.decode_bench import CAT, TRANSFORM
from tests.support.image_files import png, slow_png


def test_a_cost_is_written_on_what_may_be_decoded() -> None:
    """An image that may be decoded gets a cost, also if it arrived in pieces; slower files cost more."""
    files = [CAT, phone_jpeg(), slow_png()]
    images = [EncodedImage(file[:100], file[100:]) for file in files]
    assert [examine(image, Limits(), TRANSFORM) for image in images] == images
    costs_s = [image.cost_s or 0.0 for image in images]
    assert 0 < costs_s[0] < costs_s[1] < costs_s[2]


@pytest.mark.parametrize(
    ("file", "limits", "error"),
    [
        (b"", Limits(), EmptyImage),
        (CAT, Limits(max_image_bytes=len(CAT) - 1), ImageTooLarge),
        (CAT, Limits(max_image_pixels=1000), TooManyPixels),
        (slow_png(), Limits(max_image_work_s=0.3), ImageTooCostly),
        (b"hello", Limits(), UnsupportedFormat),
        (jpeg(photograph("cat"))[:20], Limits(), UndecodableImage),
    ],
    ids=["empty", "large", "many pixels", "much work", "text", "cut off"],
)
def test_what_the_header_refuses_is_rejected(file: bytes, limits: Limits, error: type[ImageError]) -> None:
    """An image that its header already disqualifies is rejected without a worker."""
    rejected = examine(EncodedImage(file), limits, TRANSFORM)
    assert isinstance(rejected, Rejection)
    assert type(rejected.error) is error


def test_a_limit_is_what_may_still_be() -> None:
    file = png(Image.new("L", (100, 10)))
    assert isinstance(examine(EncodedImage(file), Limits(max_image_pixels=1000), TRANSFORM), EncodedImage)
    assert isinstance(examine(EncodedImage(file), Limits(max_image_pixels=999), TRANSFORM), Rejection)
