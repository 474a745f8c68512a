"""Tests of the geometry: sizes are torchvision's, and boxes of the model's input are placed in the image as sent."""

import itertools

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.functional import resize

from pipeline.images.geometry import Geometry, fitted
from pipeline.records import FitTransform, Transform
from tests.support.image_files import as_stored

SIZES = [(1, 1), (3, 700), (333, 500), (500, 375), (641, 480), (1000, 999), (1023, 767), (4000, 3000)]


def fit(min_px: int, max_px: int, resize: str = "torch", size_px: tuple[int, int] | None = None) -> FitTransform:
    return FitTransform(min_px, max_px, size_px, resize, "exact", ("PNG",))


@pytest.mark.parametrize(("min_px", "max_px"), [(800, 1333), (320, 640)])
def test_sizes_are_those_of_torchvisions_detectors(min_px: int, max_px: int) -> None:
    theirs = GeneralizedRCNNTransform(min_px, max_px, [0.0] * 3, [1.0] * 3).eval()
    for width, height in SIZES:
        found = fitted(width, height, fit(min_px, max_px))
        image, _ = theirs.resize(torch.zeros(1, height, width).expand(3, -1, -1))
        assert found == tuple(image.shape[:0:-1])


def test_sizes_are_those_of_the_segmentation_preset_up_to_the_longest_side() -> None:
    for width, height in SIZES[2:]:
        expected = resize(torch.zeros(1, height, width), [520]).shape
        assert fitted(width, height, fit(520, 2080, "pillow")) == tuple(expected[:0:-1])
    assert fitted(5000, 1000, fit(520, 2080, "pillow")) == (2080, 416)


def test_no_input_is_larger_than_the_largest() -> None:
    """The slots have space for every size that a file, or a worker that lies, may name."""
    shapes = itertools.product((1, 2, 319, 320, 801, 65_535, 2**31 - 1), repeat=2)
    for (width, height), transform in itertools.product(
        shapes, [fit(800, 1333), fit(520, 2080, "pillow"), fit(640, 320), fit(320, 320, "torch", (320, 300))]
    ):
        across, down = fitted(width, height, transform)
        assert 1 <= across * down <= transform.most_pixels
        assert across >= 1
        assert down >= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "transform",
    [fit(20, 400), fit(20, 30, "torch", (30, 20)), Transform(32, 24, "nearest", "exact", ("PNG",))],
    ids=str,
)
def test_a_box_frames_the_same_pixels_as_sent(orientation: int, transform: Transform | FitTransform) -> None:
    """A box round a mark in the upright image frames the mark in the image as a camera stores it."""
    upright = np.zeros((60, 90), np.uint8)
    upright[24:36, 30:60] = 255
    stored = as_stored(upright, orientation)
    geometry = Geometry(stored.shape[1], stored.shape[0], orientation, transform)
    assert geometry.upright == (90, 60)
    (across, down), (left, top) = geometry.scale, geometry.offset
    box = [30 * across - left, 24 * down - top, 60 * across - left, 36 * down - top]
    boxes = np.array([box, [-1e9, -1e9, 1e9, 1e9]], np.float32)

    (x1, y1, x2, y2), whole = geometry.boxes_as_sent(boxes).round(3).tolist()

    rows, columns = stored.nonzero()
    assert [x1, y1, x2, y2] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert whole == [0, 0, stored.shape[1], stored.shape[0]]
    assert geometry.upright_boxes(boxes)[0].round(3).tolist() == [30, 24, 60, 36]
    assert geometry.boxes_as_sent(boxes[:0]).shape == (0, 4)
