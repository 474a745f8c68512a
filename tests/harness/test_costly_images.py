"""Tests of the files that are made to cost much: they are valid, so a decoder has to do all of their work."""

from collections.abc import Callable

import pytest

from harness.costly_images import (
    COSTLY_FILES,
    animated_webp,
    dense_jpeg,
    empty_jpeg,
    lossless_webp,
    lossy_webp,
    paeth_png,
    png_of_many_chunks,
    progressive_jpeg,
)
from pipeline.images.decode import decode
from pipeline.live_limits import Limits
from tests.support.decode_bench import TRANSFORM

SIZE = (304, 264)

SMALL: dict[str, Callable[[], bytes]] = {
    "jpeg, two bits a coefficient": lambda: dense_jpeg(SIZE, 3),
    "jpeg, empty": lambda: empty_jpeg(SIZE, 3),
    "jpeg, progressive": lambda: progressive_jpeg(SIZE, 3, 13),
    "jpeg, progressive, many scans": lambda: progressive_jpeg(SIZE, 1, 5, bands=63),
    "png, RGB": lambda: paeth_png(SIZE),
    "png, RGBA, 16 bits, interlaced": lambda: paeth_png(SIZE, depth=16, colour=6, interlaced=True),
    "png, 1 bit, interlaced": lambda: paeth_png(SIZE, depth=1, colour=0, interlaced=True),
    "png, many chunks": lambda: png_of_many_chunks(SIZE, 100),
    "webp, lossless": lambda: lossless_webp(SIZE),
    "webp, lossy with alpha": lambda: lossy_webp(SIZE),
    "webp, animated": lambda: animated_webp(SIZE, 100),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_one_of_each_kind_is_decoded(name: str) -> None:
    """A small file of each kind decodes completely, so nothing ends its decoding early."""
    pixels = decode(memoryview(SMALL[name]()), TRANSFORM, SIZE[0] * SIZE[1])
    assert pixels.shape == (224, 224, 3)


@pytest.mark.parametrize("name", COSTLY_FILES)
def test_each_may_be_sent(name: str) -> None:
    """Each file is within the limit on bytes."""
    assert len(COSTLY_FILES[name]()) <= Limits().max_image_bytes
