"""JPEGs in colour, decoded by simplejpeg: the same libjpeg-turbo as in Pillow, and so the same pixels, but in one go.

Pillow hands the file over in pieces, keeps four bytes a pixel and packs them in the end: `make decoders` compares.
"""

from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

_FORMATS: Final = ("JPEG", "MPO")  # the latter: several JPEGs one after another, of which the first counts
_PARTS: Final = (8, 4, 2, 1)


def part_of(size: tuple[int, int], least: tuple[int, int]) -> int:
    """To which part of its width and height an image of that size may be reduced: 1, 2, 4 or 8, as Pillow's `draft`."""
    times = min(size[0] // least[0], size[1] // least[1])
    return next((part for part in _PARTS if part <= times), 1)


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
