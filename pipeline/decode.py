"""One image: encoded bytes -> uint8 pixels. Runs in the workers; raises `ImageError` and nothing else.

Pillow raises far more than `UnidentifiedImageError` on damaged files: of 602 refused files of one corpus, 22 ended in
ValueError, 16 in DecompressionBombError, 3 in NotImplementedError and 1 in SyntaxError. Hence one border, which
renames whatever comes.
"""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from pipeline.config import RESIZED_PIXELS, decode_memory_bytes
from pipeline.errors import (
    EmptyImage,
    ImageError,
    TooManyPixels,
    TooMuchMemory,
    UndecodableImage,
    UnsupportedFormat,
)
from pipeline.jpeg import part_of, reduced_jpeg
from pipeline.records import Transform
from pipeline.resize import Frame, exactly, quickly, resized

_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What brings each EXIF orientation upright (EXIF 2.32, tag 0x0112)."""
_ON_ITS_SIDE: Final = (5, 6, 7, 8)
_LEFT_WAS_LAST: Final = (2, 3, 6, 7)
_TOP_WAS_LAST: Final = (3, 4, 7, 8)
"""Orientations whose left or upper side, upright, is where the stored rows or columns end."""

_SIGNATURE_BYTES: Final = 32

Image.MAX_IMAGE_PIXELS = None  # the header's size is checked below, against the limit in force and with its name


def decode(data: memoryview, transform: Transform, max_pixels: int) -> NDArray[np.uint8]:
    """Decodes, brings upright, resizes and crops one image.

    In `exact` mode the result equals `PIL.Image.convert("RGB")` followed by torchvision's `ImageClassification` preset
    up to its float conversion; in `fast` mode JPEGs are decoded at a reduced size where one is large enough, and what
    resizes is another kernel.

    Args:
        data: an encoded image.
        transform: sizes, interpolation, mode and formats.
        max_pixels: the most that width x height may be, by the header.

    Returns:
        uint8 [crop_px, crop_px, 3], RGB.

    Raises:
        EmptyImage, UnsupportedFormat, UndecodableImage, TooManyPixels, TooMuchMemory: what is wrong with `data`.
    """
    try:
        return _decode(data, transform, max_pixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise TooMuchMemory(
            f"decoding the image takes more than {decode_memory_bytes(max_pixels) >> 20} MiB of memory, the limit"
        ) from error
    except Exception as error:  # the border: decoders of damaged files raise anything
        raise UndecodableImage(f"the image cannot be decoded: {_in_one_line(error)}") from error


def _decode(data: memoryview, transform: Transform, max_pixels: int) -> NDArray[np.uint8]:
    with _open(data, transform.formats) as image:
        _check_pixels(*image.size, transform, max_pixels)
        if transform.decode == "fast":
            return _quickly(data, image, transform)
        image.load()
        rgb, orientation = _rgb(image), _orientation(image)
        upright = rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb
        return np.asarray(exactly(upright, transform))


def _quickly(data: memoryview, image: Image.Image, transform: Transform) -> NDArray[np.uint8]:
    """Brings upright last, when there is the least of it."""
    target = resized(*image.size, transform.resize_px)
    pixels, covered = _decoded(data, image, target)
    orientation = _orientation(image)
    left, top = _corner(target, orientation, transform.crop_px)
    kept = quickly(pixels, Frame(covered, target, left, top), transform)
    if orientation in _UPRIGHT:
        return np.asarray(Image.fromarray(kept).transpose(_UPRIGHT[orientation]))
    return kept


def _decoded(
    data: memoryview, image: Image.Image, target: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """The pixels, where a JPEG's at a part of its size; and how much of their width and height the picture covers."""
    part = part_of(image.size, target)
    pixels = reduced_jpeg(data, image, part)
    if pixels is not None:
        return pixels, (image.width / part, image.height / part)
    drafted = image.draft("RGB", (image.width // part, image.height // part))
    image.load()
    return np.array(_rgb(image)), drafted[1][2:] if drafted else image.size


def _corner(target: tuple[int, int], orientation: int, crop_px: int) -> tuple[int, int]:
    """Where the centre crop begins in the image as it is stored: its halves are rounded as those of the upright one."""
    on_its_side = orientation in _ON_ITS_SIDE
    across, down = target[::-1] if on_its_side else target
    left, top = round((across - crop_px) / 2), round((down - crop_px) / 2)
    if orientation in _LEFT_WAS_LAST:
        left = across - crop_px - left
    if orientation in _TOP_WAS_LAST:
        top = down - crop_px - top
    return (top, left) if on_its_side else (left, top)


def _open(data: memoryview, formats: tuple[str, ...]) -> Image.Image:
    if not data:
        raise EmptyImage("the image has no bytes")
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError as error:
        if _begins_like_one_of(formats, bytes(data[:_SIGNATURE_BYTES])):
            raise UndecodableImage("the image cannot be decoded: its header is damaged") from error
        raise UnsupportedFormat(f"the image is none of {', '.join(formats)}") from error


def _begins_like_one_of(formats: tuple[str, ...], signature: bytes) -> bool:
    accepts = (Image.OPEN[name][1] for name in formats)
    return any(accept is not None and accept(signature) for accept in accepts)


def _check_pixels(width: int, height: int, transform: Transform, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(f"the image has {width} x {height} = {width * height} pixels; the limit is {max_pixels}")
    across, down = resized(width, height, transform.resize_px)
    if transform.decode == "exact" and across * down > RESIZED_PIXELS:
        raise TooManyPixels(
            f"the image has {width} x {height} pixels and would have {across} x {down} = {across * down} once it is "
            f"resized; the limit is {RESIZED_PIXELS}"
        )


def _rgb(image: Image.Image) -> Image.Image:
    """To RGB as torchvision's datasets do: alpha is dropped, palettes and CMYK are converted."""
    if image.mode.startswith("I;16"):  # Pillow clips 16-bit grey at 255 instead of scaling it
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; damaged metadata costs the orientation, not the image."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - parsers of damaged metadata raise anything
        return 1
    return int(orientation) if orientation in _UPRIGHT else 1


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
