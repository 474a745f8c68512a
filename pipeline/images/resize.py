"""Resizes a decoded image and keeps the centre crop, in the way of torchvision's `ImageClassification` preset."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from pipeline.images.geometry import resized
from pipeline.records import Transform

_TORCH_INTERPOLATIONS: Final = ("bilinear", "bicubic")
_MAX_RESIZED_PER_CROP: Final = 8
"""Images that would have more than so many times the crop's pixels once resized are resized where the crop is alone."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CropPlan:
    """What is kept of an image: of its resized version the crop.

    Args:
        covered: width and height of the picture in the decoded image. All of it, but in a JPEG that was reduced: 1281
            rows at 1/4 become 321, of which the picture covers 320.25.
        target: what they are resized to.
        left: where the crop begins in that.
        top: likewise.
    """

    covered: tuple[float, float]
    target: tuple[int, int]
    left: int
    top: int


def resize_exact(image: Image.Image, transform: Transform) -> Image.Image:
    """Resizes all of an upright image and crops, as the preset does with Pillow, to the bit."""
    across, down = resized(*image.size, transform.resize_px)
    left, top = (round((length - transform.crop_px) / 2) for length in (across, down))
    whole = image.resize((across, down), Image.Resampling[transform.interpolation.upper()])
    return whole.crop((left, top, left + transform.crop_px, top + transform.crop_px))


def resize_fast(pixels: Pixels, plan: CropPlan, transform: Transform) -> Pixels:
    """Resizes by torch's kernel for uint8, quicker than Pillow's (`make decoders`), and off by a level, rarely two.

    Args:
        pixels: uint8 [height, width, 3].
        plan: what of it is kept.
        transform: of the interpolations torch's kernel knows two; for the others Pillow computes the crop alone.

    Returns:
        uint8 [crop_px, crop_px, 3].
    """
    across, down = plan.target
    crop = transform.crop_px
    if transform.interpolation not in _TORCH_INTERPOLATIONS or across * down > _MAX_RESIZED_PER_CROP * crop**2:
        return by_pillow(pixels, plan, transform)
    whole = _by_torch(pixels, plan, transform.interpolation)
    return whole[plan.top : plan.top + crop, plan.left : plan.left + crop]


def _by_torch(pixels: Pixels, plan: CropPlan, interpolation: str) -> Pixels:
    """The whole image, uint8 [target height, target width, 3]."""
    height, width, _ = pixels.shape
    (across, down), (covered_across, covered_down) = plan.target, plan.covered
    channels_last = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # quick where the strides say so
    try:
        if (width, height) == plan.covered:
            done = interpolate(channels_last, size=(down, across), mode=interpolation, antialias=True)
        else:
            scale = (down / covered_down, across / covered_across)
            done = interpolate(channels_last, scale_factor=scale, mode=interpolation, antialias=True)
    except RuntimeError as error:  # what torch says where there is no memory; nothing else of this can fail
        raise MemoryError(str(error)) from error
    return done[0].permute(1, 2, 0).numpy()


def by_pillow(pixels: Pixels, plan: CropPlan, transform: Transform) -> Pixels:
    """The crop alone: 1 x 400,000 pixels would be 256 x 102,400,000 once resized."""
    across, down = (covered / target for covered, target in zip(plan.covered, plan.target, strict=True))
    crop, left, top = transform.crop_px, plan.left, plan.top
    box = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    resample = Image.Resampling[transform.interpolation.upper()]
    return np.asarray(Image.fromarray(pixels).resize((crop, crop), resample, box=box))
