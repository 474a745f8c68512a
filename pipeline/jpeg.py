"""JPEGs in colour, decoded by simplejpeg: the same libjpeg-turbo as in Pillow, and so the same pixels, but in one go.

Pillow hands the file over in pieces, keeps four bytes a pixel and packs them in the end: `make decoders` compares.
"""

from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

_FORMATS: Final = ("JPEG", "MPO")  # the latter: several JPEGs one after another, of which the first counts
_PARTS: Final = (8, 4)
"""Halves save too little for how far they move scores; 3/8 and the like take longer than the whole image: no SIMD."""

LEAST_RATIO: Final = 2.9
"""A reduced image is at least so many times as large as the resize makes it. Each of its pixels is the mean of a block,
which the resize cannot undo: at a ratio of 1 scores move by up to 0.37, from 2.9 on by up to 0.05 (`make decoders`)."""


def part_of(size: tuple[int, int], target: tuple[int, int]) -> int:
    """The part of its width and height at which an image is decoded: 1, 4 or 8.

    Args:
        size: width and height of the image.
        target: width and height once it is resized.
    """
    ratio = min(size[0] / target[0], size[1] / target[1])
    return next((part for part in _PARTS if part * LEAST_RATIO <= ratio), 1)


def reduced_jpeg(data: memoryview, header: Image.Image, part: int) -> NDArray[np.uint8] | None:
    """Decodes at a part of the size, by libjpeg's scaled inverse DCT.

    Args:
        data: an encoded image.
        header: the same, opened and not loaded.
        part: of its width and height; they are rounded up.

    Returns:
        uint8 [height, width, 3], RGB; None where the file is no JPEG in colour, or damaged: Pillow knows what to do.
    """
    if header.format not in _FORMATS or header.mode != "RGB":
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, min_height=-(-header.height // part), min_width=-(-header.width // part), min_factor=1
        )
    except ValueError:
        return None
    return pixels
