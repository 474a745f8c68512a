"""Test images that an engine sends through its whole path before it serves requests."""

import io
import math
from typing import Final

import numpy as np
from PIL import Image

from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from pipeline.model.precision import scenes
from pipeline.records import UserTransform, WorkerTransform

_MAX_SIDE_PX: Final = 256
"""Longest side of a test image. The resize enlarges images that are smaller than its target."""

_SCENE_IMAGES: Final = 2


def blank(transform: WorkerTransform) -> bytes:
    """Return an encoded grey image in the first accepted format, in the size of the engine's own test image."""
    return _encoded(Image.new("RGB", transform.blank_size, "grey"), transform)


def most_pixels(transform: WorkerTransform) -> int:
    """Return the pixels of the largest test image."""
    return max(math.prod(transform.blank_size), _MAX_SIDE_PX**2)


def warm_up_images(transform: WorkerTransform) -> list[bytes]:
    """Return encoded test images in the first accepted format: black, white, noise, and two like photographs."""
    side_px = min(max(transform.blank_size), _MAX_SIDE_PX)
    pixels = [np.full((side_px, side_px, 3), level, np.uint8) for level in (0, 255)]
    pixels += [*noise(1, InputSpec.of_pixels(side_px), seed=0).numpy(), *scenes(_SCENE_IMAGES, side_px).numpy()]
    pictures = [Image.fromarray(each) for each in pixels]
    if isinstance(transform, UserTransform):  # it may take no other size
        pictures = [each.resize(transform.blank_size) for each in pictures]
    return [_encoded(each, transform) for each in pictures]


def _encoded(image: Image.Image, transform: WorkerTransform) -> bytes:
    file = io.BytesIO()
    image.save(file, transform.formats[0])
    return file.getvalue()
