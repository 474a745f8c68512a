"""Resizes a decoded image and keeps the centre crop, as torchvision's `ImageClassification` preset does."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from pipeline.images.geometry import target_size
from pipeline.records import Transform

_TORCH_INTERPOLATIONS: Final = ("bilinear", "bicubic")
_MAX_RESIZED_PER_CROP: Final = 8
"""Ratio of resized to cropped pixels above which only the part of the image under the crop is resized."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CropPlan:
    """Sizes of a resize and place of the crop in the resized image, in pixels.

    Args:
        covered: width and height of the picture in the decoded image. Less than the whole only in a reduced JPEG: 1281
            rows at 1/4 become 321, of which the picture covers 320.25.
        target: width and height to which the picture is resized.
        left: left side of the crop in the resized picture.
        top: upper side of the crop in the resized picture.
    """

    covered: tuple[float, float]
    target: tuple[int, int]
    left: int
    top: int


def resize_exact(image: Image.Image, transform: Transform) -> Image.Image:
    """Resize a whole upright image and crop it; equal to the preset with Pillow, bit for bit."""
    across, down = target_size(*image.size, transform)
    left, top = (round((length - transform.crop_px) / 2) for length in (across, down))
    whole = image.resize((across, down), Image.Resampling[transform.interpolation.upper()])
    return whole.crop((left, top, left + transform.crop_px, top + transform.crop_px))


def resize_fast(pixels: Pixels, plan: CropPlan, transform: Transform) -> Pixels:
    """Resize with torch's uint8 kernel: quicker than Pillow (`make decoders`), and one level off at times, rarely two.

    Args:
        pixels: uint8 [height, width, 3].
        plan: sizes of the resize, and place of the crop.
        transform: torch's kernel supports bilinear and bicubic; for other interpolations Pillow computes the crop.

    Returns:
        uint8 [crop_px, crop_px, 3].
    """
    across, down = plan.target
    crop = transform.crop_px
    if transform.interpolation not in _TORCH_INTERPOLATIONS or across * down > _MAX_RESIZED_PER_CROP * crop**2:
        return by_pillow(pixels, plan, transform)
    whole = by_torch(pixels, plan, transform.interpolation)
    return whole[plan.top : plan.top + crop, plan.left : plan.left + crop]


def by_torch(pixels: Pixels, plan: CropPlan, interpolation: str) -> Pixels:
    """Resize the whole image: uint8 [target height, target width, 3]."""
    height, width, _ = pixels.shape
    (across, down), (covered_across, covered_down) = plan.target, plan.covered
    channels_last = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # torch is quick with these strides
    try:
        if (width, height) == plan.covered:
            done = interpolate(channels_last, size=(down, across), mode=interpolation, antialias=True)
        else:
            scale = (down / covered_down, across / covered_across)
            done = interpolate(channels_last, scale_factor=scale, mode=interpolation, antialias=True)
    except RuntimeError as error:  # torch's error when memory runs out; nothing else can fail here
        raise MemoryError(str(error)) from error
    return done[0].permute(1, 2, 0).numpy()


def by_pillow(pixels: Pixels, plan: CropPlan, transform: Transform) -> Pixels:
    """Resize only the part under the crop: 1 x 400,000 pixels would become 256 x 102,400,000."""
    across, down = (covered / target for covered, target in zip(plan.covered, plan.target, strict=True))
    crop, left, top = transform.crop_px, plan.left, plan.top
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    resample = Image.Resampling[transform.interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize((crop, crop), resample, box=box))
