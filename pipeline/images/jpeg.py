"""Decodes JPEGs with simplejpeg: the same libjpeg-turbo as in Pillow, and so the same pixels, but in one call.

Pillow passes the file on in pieces, keeps four bytes a pixel and packs them in the end, and ignores warnings:
`make decoders` compares the two.

Hazard: simplejpeg trusts the size that it is asked for (1.9.0). If libjpeg cannot scale, simplejpeg writes beyond the
memory of the smaller picture. Guards: only codings that scale are scaled, by their marker; and the memory has the size
that `jpeg_header` reads, which simplejpeg compares with its own before it writes.
"""

from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import TooManyPixels, UndecodableImage
from pipeline.images.header import Header
from pipeline.images.jpeg_damage import check_scans, decode_arithmetic, decode_flawed
from pipeline.images.jpeg_header import segments
from pipeline.images.orientation import Metadata
from pipeline.images.piecewise import Piecewise

_MAX_PIXEL_BYTES: Final = (1 << 31) - 1
"""simplejpeg computes the bytes of a picture in 32 bits."""

_COLOURSPACE_BY_CHANNELS: Final = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_APP1: Final = 0xE1
_EXIF_PREFIX: Final = b"Exif\0\0"
_XMP_PREFIX: Final = b"http://ns.adobe.com/xap/1.0/\0"

Pixels = NDArray[np.uint8]


def decode_jpeg(data: memoryview, header: Header, part: int) -> Pixels:
    """Decode a JPEG, at a reduced size if asked for, by libjpeg's scaled inverse DCT.

    Args:
        data: an encoded image.
        header: header of the image.
        part: divisor of width and height, which are rounded up. Above 1 only if the image `scales`.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        UndecodableImage: pixels are missing or corrupt; the message says how many rows could be read.
    """
    try:
        pixels = _strictly(data, header, part)
    except ValueError as error:
        pixels = decode_flawed(data, header, part, str(error), _strictly)
    check_scans(header)
    return np.array(Image.fromarray(255 - pixels, "CMYK").convert("RGB")) if header.channels == 4 else _three(pixels)


def metadata_of_jpeg(data: memoryview) -> Metadata:
    """Read Exif, joined from all of its segments, and XMP."""
    file = Piecewise((data,))
    exif, xmp = b"", b""
    for marker, start, end in segments(file):
        if marker == _APP1 and file.read(start, len(_EXIF_PREFIX)) == _EXIF_PREFIX:
            exif += file.read(start + bool(exif) * len(_EXIF_PREFIX), end - start - bool(exif) * len(_EXIF_PREFIX))
        elif marker == _APP1 and file.read(start, len(_XMP_PREFIX)) == _XMP_PREFIX:
            xmp = file.read(start, end - start)
    return Metadata(exif, xmp)


def _strictly(data: memoryview | bytes, header: Header, part: int) -> Pixels:
    """Decode to libjpeg's pixels: RGB, CMYK, or one channel of a lossless grey JPEG, which libjpeg cannot convert.

    Raises:
        ValueError: libjpeg warns; the message is its first warning.
    """
    height, width = -(-header.height // part), -(-header.width // part)
    channels = header.channels if header.coding == "lossless" else max(3, header.channels)
    if height * width * channels > _MAX_PIXEL_BYTES:
        raise TooManyPixels(f"the JPEG would take {height * width * channels} bytes; the limit is {_MAX_PIXEL_BYTES}")
    pixels = np.empty((height, width, channels), np.uint8)
    least = {"min_height": height, "min_width": width} if part > 1 else {}

    def decode(file: memoryview | bytes) -> None:
        found = simplejpeg.decode_jpeg(file, _COLOURSPACE_BY_CHANNELS[channels], min_factor=1, buffer=pixels, **least)
        if found.shape != pixels.shape:
            raise UndecodableImage("the image cannot be decoded: its header says another size than its pixels have")

    if "arithmetic" in header.coding:
        decode_arithmetic(data, decode)
    else:
        decode(data)
    return pixels


def _three(pixels: Pixels) -> Pixels:
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
