"""Sizes of an image as sent, as decoded and as resized. Imports no decoder."""

from typing import Final, NamedTuple

from pipeline.images.header import Header
from pipeline.records import Transform

_DCT_SCALES: Final = (8, 4, 2)
"""Reductions of a JPEG that libjpeg-turbo decodes with SIMD code. Without it, scaling to 3/8 takes longer than to a
half, and to 5/8 or more longer than the full size."""

MIN_REDUCED_TO_TARGET_RATIO: Final = 5.8
"""Least ratio of a reduced image's size to the size after the resize. Each pixel of a reduced image is the mean of a
block, which the resize cannot undo: at a ratio of 1 scores move by up to 0.37, at 2.9 by 0.05, from 5.8 on by 0.03
(`make decoders`)."""

ON_ITS_SIDE: Final = (5, 6, 7, 8)
"""EXIF orientations of images that are stored on their side."""

_SCALABLE_CODINGS: Final = ("baseline", "extended", "progressive", "arithmetic", "arithmetic progressive")
"""JPEG codings that libjpeg can decode at a reduced size."""


def resized(width: int, height: int, shorter_px: int) -> tuple[int, int]:
    """Return width and height after the shorter side is resized to `shorter_px`, rounded as in torchvision's Resize."""
    if width <= height:
        return shorter_px, int(shorter_px * height / width)
    return int(shorter_px * width / height), shorter_px


def dct_scale(size: tuple[int, int], target: tuple[int, int]) -> int:
    """Return the reduction at which a JPEG is decoded: its sides are divided by 1, 2, 4 or 8.

    Args:
        size: width and height of the image.
        target: width and height after the resize.
    """
    ratio = min(size[0] / target[0], size[1] / target[1])
    return next((part for part in _DCT_SCALES if part * MIN_REDUCED_TO_TARGET_RATIO <= ratio), 1)


def scales(header: Header) -> bool:
    """Return whether libjpeg can decode the JPEG at a reduced size."""
    return header.coding in _SCALABLE_CODINGS


class Geometry(NamedTuple):
    """Mapping between the model's input and the image as sent, e.g. to place boxes that the model finds."""

    width: int  # of the image as it was sent, in pixels: before the EXIF orientation is applied
    height: int
    orientation: int  # EXIF orientation, 1 to 8; 1 if the image was sent upright
    transform: Transform  # resize and crop of the image

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the upright image, in its own pixels."""
        return (self.height, self.width) if self.orientation in ON_ITS_SIDE else (self.width, self.height)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the model's input for each pixel of the upright image, across and down."""
        upright = self.upright
        across, down = resized(*upright, self.transform.resize_px)
        return across / upright[0], down / upright[1]

    @property
    def offset(self) -> tuple[int, int]:
        """Left and top of the model's input in the resized upright image, in pixels."""
        across, down = resized(*self.upright, self.transform.resize_px)
        crop_px = self.transform.crop_px
        return round((across - crop_px) / 2), round((down - crop_px) / 2)
