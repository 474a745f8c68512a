"""Sizes of an image on its way: as sent, as it is decoded, and once it is resized. Loads no decoder."""

from typing import Final, NamedTuple

from pipeline.images.header import Header
from pipeline.records import Transform

_DCT_SCALES: Final = (8, 4, 2)
"""libjpeg-turbo has no SIMD code for the factors between: 3/8 takes longer than a half, 5/8 and more longer than the
whole."""

MIN_REDUCED_TO_TARGET_RATIO: Final = 5.8
"""A reduced image is at least so many times as large as the resize makes it. Each of its pixels is the mean of a block,
which the resize cannot undo: at a ratio of 1 scores move by up to 0.37, at 2.9 by 0.05, from 5.8 on by 0.03 (`make
decoders`)."""

ON_ITS_SIDE: Final = (5, 6, 7, 8)
"""EXIF orientations of images that were sent on their side."""

_SCALABLE_CODINGS: Final = ("baseline", "extended", "progressive", "arithmetic", "arithmetic progressive")
"""Codings of which libjpeg can decode a part of the size."""


def resized(width: int, height: int, shorter_px: int) -> tuple[int, int]:
    """Width and height once the shorter side has `shorter_px`, rounded as torchvision's Resize does."""
    if width <= height:
        return shorter_px, int(shorter_px * height / width)
    return int(shorter_px * width / height), shorter_px


def dct_scale(size: tuple[int, int], target: tuple[int, int]) -> int:
    """The part of its width and height at which an image is decoded: 1, 4 or 8.

    Args:
        size: width and height of the image.
        target: width and height once it is resized.
    """
    ratio = min(size[0] / target[0], size[1] / target[1])
    return next((part for part in _DCT_SCALES if part * MIN_REDUCED_TO_TARGET_RATIO <= ratio), 1)


def scales(header: Header) -> bool:
    """Whether libjpeg can decode the JPEG at a part of its size."""
    return header.coding in _SCALABLE_CODINGS


class Geometry(NamedTuple):
    """How one image became the input of the model: maps what the model finds there back to the image as it was sent."""

    width: int  # of the image as it was sent, in pixels: before its EXIF orientation brings it upright
    height: int
    orientation: int  # by EXIF, 1 to 8; 1 where the image was sent upright
    transform: Transform  # that was done with it

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
        """Left upper corner of the model's input in the resized upright image."""
        across, down = resized(*self.upright, self.transform.resize_px)
        crop_px = self.transform.crop_px
        return round((across - crop_px) / 2), round((down - crop_px) / 2)
