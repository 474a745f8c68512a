"""Resizes a decoded image to fit into a model's input, without a crop."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from pipeline.images.geometry import fitted
from pipeline.images.resize import CropPlan, by_torch
from pipeline.records import FitTransform

_BILINEAR: Final = "bilinear"
"""Interpolation of all of torchvision's detection and segmentation models."""

Input = NDArray[np.uint8] | NDArray[np.float32]


def fit_exact(upright: Image.Image, transform: FitTransform) -> Input:
    """Resize an upright image as torchvision does.

    Returns:
        As torchvision's presets with Pillow, bit for bit: uint8 [height, width, 3]. Or as torchvision's detectors,
        without antialiasing: float32 [height, width, 3] in 0..1; it differs from theirs by float rounding alone,
        since they normalise before they resize.
    """
    size = fitted(*upright.size, transform)
    if not transform.makes_floats:
        return np.asarray(upright.resize(size, Image.Resampling.BILINEAR))
    # https://github.com/pytorch/vision/blob/main/torchvision/models/detection/transform.py, _resize_image_and_masks
    pixels = torch.from_numpy(np.array(upright)).permute(2, 0, 1)[None]
    floats = pixels.to(torch.float32).div_(255)
    resized = interpolate(floats, size=size[::-1], mode=_BILINEAR, align_corners=False)[0]
    return resized.permute(1, 2, 0).contiguous().numpy()


def fit_fast(pixels: NDArray[np.uint8], covered: tuple[float, float], target: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize an image as stored, with torch's antialiased uint8 kernel.

    Args:
        pixels: uint8 [height, width, 3].
        covered: width and height of the picture in `pixels`; see `CropPlan`.
        target: width and height to which the picture is resized, as stored.
    """
    return by_torch(pixels, CropPlan(covered, target, 0, 0), _BILINEAR)
