"""Sizes of an image on its way: how small it is decoded, and how large it is once it is resized. Loads no decoder."""

from typing import Final

from pipeline.images.header import Header

_DCT_SCALES: Final = (8, 4, 2)
"""libjpeg-turbo has no SIMD code for the factors between: 3/8 takes longer than a half, 5/8 and more longer than the
whole."""

MIN_REDUCED_TO_TARGET_RATIO: Final = 5.8
"""A reduced image is at least so many times as large as the resize makes it. Each of its pixels is the mean of a block,
which the resize cannot undo: at a ratio of 1 scores move by up to 0.37, at 2.9 by 0.05, from 5.8 on by 0.03 (`make
decoders`)."""

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
