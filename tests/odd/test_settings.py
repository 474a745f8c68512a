"""Tests of odd files with other settings: with GIF, BMP and AVIF accepted, or with transparency dropped."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional as reference

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Transform
from tests.odd.judge import status_of
from tests.odd.odd_file import OddFile, by_pillow
from tests.odd.others import FORMATS, others
from tests.odd.transparent import transparents

TRANSFORM = Transform(256, 224, "bilinear", "exact", FORMATS)


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about many files that it can read
def test_gif_bmp_and_avif_where_they_are_served(mode: str, subtests: pytest.Subtests) -> None:
    """If GIF, BMP and AVIF are accepted, their pixels equal torchvision's, or the error is of the right kind."""
    for file in others():
        with subtests.test(str(file)):
            assert _said(file, mode) in file.statuses


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_transparency_that_is_dropped_is_as_torchvision_drops_it(subtests: pytest.Subtests) -> None:
    """Dropped transparency equals torchvision's, except in 16-bit grey, which Pillow clips and Darkroom scales."""
    for file in transparents():
        if "shade of 16 bits" not in file.name:
            dropped = replace(TRANSFORM, background="drop")
            with subtests.test(str(file)):
                expected = _by_torchvision(by_pillow(file.data))
                np.testing.assert_array_equal(decode(memoryview(file.data), dropped, 50_000_000), expected)


def _by_torchvision(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(reference.center_crop(reference.resize(picture, [256]), [224]), np.int64)


def _said(file: OddFile, mode: str) -> int:
    try:
        pixels = decode(memoryview(file.data), replace(TRANSFORM, decode=mode), 50_000_000)
    except ImageError as error:
        return status_of(error)
    if file.picture is not None:
        assert np.abs(pixels - _by_torchvision(file.picture)).mean() < (1.5 if mode == "fast" else 0.01)
    return 200
