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
from pipeline.records import Transform

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
    up to its float conversion; in `fast` mode JPEGs are decoded at a reduced size where one is large enough
    (libjpeg's scaled inverse DCT), and only the crop is resized.

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
        width, height = image.size
        _check_pixels(width, height, transform, max_pixels)
        covered = _load(image, transform)
        rgb, orientation = _rgb(image), _orientation(image)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        if orientation in _ON_ITS_SIDE:
            width, height, covered = height, width, covered[::-1]
        # A scaled JPEG ends within its last pixels; the upright picture begins there where its side was turned over.
        left = rgb.width - covered[0] if orientation in _LEFT_WAS_LAST else 0.0
        top = rgb.height - covered[1] if orientation in _TOP_WAS_LAST else 0.0
        target = _resized(width, height, transform.resize_px)
        return np.asarray(_cropped(rgb, (left, top, *covered), target, transform))


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
    across, down = _resized(width, height, transform.resize_px)
    if transform.decode == "exact" and across * down > RESIZED_PIXELS:
        raise TooManyPixels(
            f"the image has {width} x {height} pixels and would have {across} x {down} = {across * down} once it is "
            f"resized; the limit is {RESIZED_PIXELS}"
        )


def _load(image: Image.Image, transform: Transform) -> tuple[float, float]:
    """Decodes; returns how much of the decoded width and height the picture covers.

    All, but in a JPEG that is scaled down: 1281 rows at 1/4 become 321, of which the picture covers 320.25.
    """
    fast = transform.decode == "fast"
    drafted = image.draft("RGB", _resized(*image.size, transform.resize_px)) if fast else None
    image.load()
    return drafted[1][2:] if drafted else image.size


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


def _resized(width: int, height: int, shorter_px: int) -> tuple[int, int]:
    """Width and height once the shorter side has `shorter_px`, rounded as torchvision's Resize does."""
    if width <= height:
        return shorter_px, int(shorter_px * height / width)
    return int(shorter_px * width / height), shorter_px


def _cropped(
    image: Image.Image, picture: tuple[float, float, float, float], target: tuple[int, int], transform: Transform
) -> Image.Image:
    """Resizes to `target` and crops the centre; in `fast` mode computes only what the crop keeps.

    `picture` is where it lies in `image`: left, top, width, height.
    """
    crop, resample = transform.crop_px, Image.Resampling[transform.interpolation.upper()]
    left, top = round((target[0] - crop) / 2), round((target[1] - crop) / 2)
    if transform.decode == "exact":
        return image.resize(target, resample).crop((left, top, left + crop, top + crop))
    x, y, across, down = picture[0], picture[1], picture[2] / target[0], picture[3] / target[1]
    box = (x + left * across, y + top * down, x + (left + crop) * across, y + (top + crop) * down)
    return image.resize((crop, crop), resample, box=box)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
