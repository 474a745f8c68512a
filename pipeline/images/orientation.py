"""The orientation of an image, read from its metadata, and the transposition that brings the pixels upright."""

import re
from dataclasses import dataclass
from typing import Final

from PIL import Image
from PIL.Image import Transpose

from pipeline.images.geometry import ON_ITS_SIDE

UPRIGHT_TURNS: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""Transposition that brings each EXIF orientation upright (EXIF 2.32, tag 0x0112)."""

STORED_TURNS: Final = UPRIGHT_TURNS | {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}
"""Transposition that turns an upright image into the stored one, by EXIF orientation: the inverse of the above."""

_ORIENTATION_TAG: Final = 0x0112
_XMP_ORIENTATION: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_LEFT_WAS_LAST_ORIENTATIONS: Final = (2, 3, 6, 7)
_TOP_WAS_LAST_ORIENTATIONS: Final = (3, 4, 7, 8)
"""Orientations whose upright left (or upper) side is the end of the stored rows or columns."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The raw parts of a file that may contain its orientation."""

    exif: bytes = b""  # a TIFF directory, perhaps after "Exif" and two zero bytes
    xmp: bytes = b""  # used if Exif has no orientation, as in Pillow


def orientation_of(metadata: Metadata) -> int:
    """Return the EXIF orientation, 1 to 8; damaged metadata give 1, and the image is still decoded."""
    if not metadata.exif and not metadata.xmp:
        return 1
    exif = Image.Exif()
    try:
        if metadata.exif:
            exif.load(metadata.exif)
        return _known(exif[_ORIENTATION_TAG] if _ORIENTATION_TAG in exif else _by_xmp(metadata.xmp))
    except Exception:  # noqa: BLE001 - parsers of damaged metadata raise anything
        return 1


def orientation_of_opened(image: Image.Image) -> int:
    """Return the EXIF orientation of an image that Pillow has opened, 1 to 8."""
    try:
        return _known(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - parsers of damaged metadata raise anything
        return 1


def corner(target: tuple[int, int], orientation: int, crop_px: int) -> tuple[int, int]:
    """Return left and top of the centre crop in the stored image, with halves rounded as in the upright image."""
    on_its_side = orientation in ON_ITS_SIDE
    across, down = target[::-1] if on_its_side else target
    left, top = round((across - crop_px) / 2), round((down - crop_px) / 2)
    if orientation in _LEFT_WAS_LAST_ORIENTATIONS:
        left = across - crop_px - left
    if orientation in _TOP_WAS_LAST_ORIENTATIONS:
        top = down - crop_px - top
    return (top, left) if on_its_side else (left, top)


def _known(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and orientation in UPRIGHT_TURNS else 1


def _by_xmp(xmp: bytes) -> int:
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 1
