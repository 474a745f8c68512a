"""The pictures from which odd files are made."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harness.photographs import photograph

SIZE = (93, 61)
"""Width and height, both odd and so no multiples of a block's 8 pixels."""

RESIZE_PX, CROP_PX = 128, 112
"""Sizes of the transform that odd files go through."""


@functools.cache
def cat() -> Image.Image:
    """Return the cat: RGB, 93 x 61."""
    return photograph("cat").resize(SIZE, Image.Resampling.LANCZOS)


@functools.cache
def flower() -> Image.Image:
    """Return the flower: RGB, 93 x 61."""
    return photograph("flower").resize(SIZE, Image.Resampling.LANCZOS)


@functools.cache
def grey() -> Image.Image:
    """Return the cat in grey (L)."""
    return cat().convert("L")


@functools.cache
def cut_out() -> Image.Image:
    """Return the cat within a soft ellipse (RGBA); the transparent pixels around it have the flower's colours."""
    mask = Image.new("L", (4 * SIZE[0], 4 * SIZE[1]))
    ImageDraw.Draw(mask).ellipse((40, 20, 330, 225), fill=255)
    hidden = flower().copy()
    alpha = mask.resize(SIZE, Image.Resampling.BOX)
    hidden.paste(cat(), mask=alpha.point(lambda value: 255 if value else 0))
    hidden.putalpha(alpha)
    return hidden


def on_white(image: Image.Image) -> Image.Image:
    """Return the picture composited on white, as it is seen."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def samples(image: Image.Image) -> NDArray[Any]:
    """Return uint8 [height, width, channels]."""
    array = np.asarray(image)
    return array.reshape(array.shape[0], array.shape[1], -1)
