"""Sizes of an image as sent, as decoded and as resized. Imports no decoder."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.images.header import Header
from pipeline.records import FitTransform, UserTransform, WorkerTransform

_DCT_SCALES: Final = (8, 4, 2)
"""Reductions of a JPEG that libjpeg-turbo decodes with SIMD code. Without it, scaling to 3/8 takes longer than to a
half, and to 5/8 or more longer than the full size."""

MIN_REDUCED_TO_TARGET_RATIO: Final = 5.8
"""Least ratio of a reduced image's size to the size after the resize. Each pixel of a reduced image is the mean of a
block, which the resize cannot undo: at a ratio of 1 scores move by up to 0.37, at 2.9 by 0.05, from 5.8 on by 0.03
(`make decoders`)."""

ON_ITS_SIDE: Final = (5, 6, 7, 8)
"""EXIF orientations of images that are stored on their side."""

LEFT_IS_RIGHT: Final = (2, 3, 7, 8)
TOP_IS_BOTTOM: Final = (3, 4, 6, 7)
"""EXIF orientations whose stored rows (or columns) run against those of the upright image, once its axes are those of
the stored one."""

_SCALABLE_CODINGS: Final = ("baseline", "extended", "progressive", "arithmetic", "arithmetic progressive")
"""JPEG codings that libjpeg can decode at a reduced size."""


def resized(width: int, height: int, shorter_px: int) -> tuple[int, int]:
    """Return width and height after the shorter side is resized to `shorter_px`, rounded as in torchvision's Resize."""
    if width <= height:
        return shorter_px, int(shorter_px * height / width)
    return int(shorter_px * width / height), shorter_px


def fitted(width: int, height: int, transform: FitTransform) -> tuple[int, int]:
    """Return width and height of an image once it is resized to fit, rounded as torchvision rounds them.

    The shorter side gets `min_px`, unless the longer one would then have more than `max_px`.

    Args:
        width: of the upright image.
        height: of the upright image.
        transform: the lengths, and the rule of rounding.
    """
    if transform.size_px:
        return transform.size_px
    if transform.resize == "pillow" and max(size := resized(width, height, transform.min_px)) <= transform.max_px:
        return size
    scale = min(transform.min_px / min(width, height), transform.max_px / max(width, height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def target_size(width: int, height: int, transform: WorkerTransform) -> tuple[int, int]:
    """Return width and height of an upright image after the resize, before a crop.

    Only the user knows the steps of his own transform, so its input counts as the whole image in full size.
    """
    if isinstance(transform, UserTransform):
        return width, height
    if isinstance(transform, FitTransform):
        return fitted(width, height, transform)
    if transform.squash:
        return transform.resize_px, transform.resize_px
    return resized(width, height, transform.resize_px)


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
    transform: WorkerTransform  # resize and crop of the image

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the upright image, in its own pixels."""
        return (self.height, self.width) if self.orientation in ON_ITS_SIDE else (self.width, self.height)

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the model's input."""
        if isinstance(self.transform, FitTransform):
            return fitted(*self.upright, self.transform)
        if isinstance(self.transform, UserTransform):
            return self.upright
        return self.transform.crop_px, self.transform.crop_px

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the model's input for each pixel of the upright image, across and down."""
        upright = self.upright
        across, down = target_size(*upright, self.transform)
        return across / upright[0], down / upright[1]

    @property
    def offset(self) -> tuple[int, int]:
        """Left and top of the model's input in the resized upright image, in pixels."""
        across, down = target_size(*self.upright, self.transform)
        width, height = self.input_size
        return round((across - width) / 2), round((down - height) / 2)

    def upright_boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Place boxes of the model's input in the upright image, cut off at its edges.

        Args:
            boxes: float32 [k, 4]: left, top, right and bottom in pixels of the model's input.

        Returns:
            float32 [k, 4], in pixels of the upright image.
        """
        upright = np.asarray(self.upright, np.float32)
        ratio = upright / np.asarray(target_size(*self.upright, self.transform), np.float32)
        corners = (boxes.reshape(-1, 2, 2) + np.asarray(self.offset, np.float32)) * ratio
        return np.clip(corners, 0, upright).astype(np.float32).reshape(-1, 4)

    def boxes_as_sent(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Place boxes of the model's input in the image as it was sent, before its EXIF orientation is applied.

        Args:
            boxes: float32 [k, 4]: left, top, right and bottom in pixels of the model's input.

        Returns:
            float32 [k, 4]: left, top, right and bottom in pixels of the image as sent.
        """
        corners = self.upright_boxes(boxes).reshape(-1, 2, 2)
        if self.orientation in ON_ITS_SIDE:
            corners = corners[:, :, ::-1]
        size = np.asarray((self.width, self.height), np.float32)
        mirrored = (self.orientation in LEFT_IS_RIGHT, self.orientation in TOP_IS_BOTTOM)
        corners = np.where(mirrored, size - corners, corners)
        return np.concatenate([corners.min(1), corners.max(1)], axis=1)
