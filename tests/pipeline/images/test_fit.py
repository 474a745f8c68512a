"""Tests of the resize to fit: `exact` is torchvision's own way, and `fast` is close to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms._presets import ObjectDetection, SemanticSegmentation

from harness.photographs import photograph
from pipeline.images.decode import DecodedImage, decode_image
from pipeline.records import FitTransform
from tests.support.image_files import png, with_orientation

DETECTOR = FitTransform(320, 640, None, "torch", "exact", ("JPEG", "PNG"))
SEGMENTER = FitTransform(260, 1040, None, "pillow", "exact", ("JPEG", "PNG"))
MAX_PIXELS = 1_000_000


def decoded(data: bytes, transform: FitTransform) -> DecodedImage:
    return decode_image(memoryview(data), transform, MAX_PIXELS)


@pytest.mark.parametrize("size", [(700, 400), (400, 700), (90, 70)], ids=str)
def test_exact_is_the_resize_of_torchvisions_detectors(size: tuple[int, int]) -> None:
    image = photograph("cat").resize(size)
    theirs = GeneralizedRCNNTransform(320, 640, [0.0] * 3, [1.0] * 3).eval()
    expected, _ = theirs.resize(ObjectDetection()(image))
    found = torch.from_numpy(decoded(png(image), DETECTOR).pixels)
    torch.testing.assert_close(found.permute(2, 0, 1), expected, atol=1e-6, rtol=0)


def test_exact_is_the_segmentation_preset_bit_for_bit() -> None:
    image = photograph("cat").resize((400, 611))
    expected: Tensor = SemanticSegmentation(resize_size=260, mean=(0.0,) * 3, std=(1.0,) * 3)(image)
    found = torch.from_numpy(np.array(decoded(png(image), SEGMENTER).pixels))
    assert torch.equal(found.permute(2, 0, 1).float() / 255, expected)


@pytest.mark.parametrize("transform", [DETECTOR, SEGMENTER, replace(DETECTOR, size_px=(300, 200))], ids=str)
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_every_orientation_gives_the_upright_input(transform: FitTransform, mode: str) -> None:
    """Shape and pixels are those of the upright image; the size and the orientation are those of the file."""
    transform = replace(transform, decode=mode)
    image = photograph("cat").resize((451, 300))
    expected = decoded(png(image), transform)
    for orientation in range(2, 9):
        found = decoded(with_orientation(image, orientation, "PNG"), transform)
        assert found.orientation == orientation
        assert (found.width, found.height) == ((300, 451) if orientation > 4 else (451, 300))
        assert found.pixels.shape == expected.pixels.shape
        difference = np.abs(np.asarray(found.pixels, np.float32) - np.asarray(expected.pixels))
        assert difference.max() <= (2 if mode == "fast" else 0)


def test_fast_differs_from_the_segmentation_preset_by_little() -> None:
    data = png(photograph("temple").resize((900, 640)))
    ours, exact = (np.asarray(decoded(data, replace(SEGMENTER, decode=mode)).pixels, int) for mode in ("fast", "exact"))
    assert np.abs(ours - exact).max() <= 2
    assert np.abs(ours - exact).mean() < 0.1
