"""Test images that an engine sends through its whole path before it serves requests."""

import io
from typing import Final

import numpy as np
from PIL import Image

from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from pipeline.model.precision import scenes
from pipeline.records import Transform

_MAX_SIDE_PX: Final = 256
"""Longest side of a test image. The resize enlarges images that are smaller than its target."""

_SCENE_IMAGES: Final = 2


def blank(transform: Transform) -> bytes:
    """Return an encoded grey image in the first accepted format, as large as the transform's resize."""
    return _encoded(Image.new("RGB", (transform.resize_px, transform.resize_px), "grey"), transform)


def warm_up_images(transform: Transform) -> list[bytes]:
    """Return encoded test images in the first accepted format: black, white, noise, and two like photographs."""
    side_px = min(transform.resize_px, _MAX_SIDE_PX)
    pixels = [np.full((side_px, side_px, 3), level, np.uint8) for level in (0, 255)]
    pixels += [*noise(1, InputSpec.of_pixels(side_px), seed=0).numpy(), *scenes(_SCENE_IMAGES, side_px).numpy()]
    return [_encoded(Image.fromarray(each), transform) for each in pixels]


def _encoded(image: Image.Image, transform: Transform) -> bytes:
    file = io.BytesIO()
    image.save(file, transform.formats[0])
    return file.getvalue()
