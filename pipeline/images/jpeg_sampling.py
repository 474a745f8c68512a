"""Decodes with Pillow the JPEGs whose chroma subsampling has no name in TurboJPEG.

Pillow ignores libjpeg's warnings. So missing or left-over bytes are found by decoding again, with other bytes at the
places where a complete picture ends.
"""

import io
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import UndecodableImage
from pipeline.images.header import Header
from pipeline.images.jpeg_entropy import END_MARKER, NOISE_BYTES, up_to_marker
from pipeline.images.jpeg_header import CODINGS, segments
from pipeline.images.piecewise import Piecewise

_RESTART_MARKER: Final = re.compile(rb"\xff[\xd0-\xd7]")
_RESTART_INTERVAL_MARKER: Final = 0xDD
_REPLACED_BYTES: Final = 8
"""Bytes replaced at the end of a restart interval; its last block uses at least one of them."""

Pixels = NDArray[np.uint8]


def decode_odd_sampling(file: bytes, header: Header, part: int) -> Pixels:
    """Decode a JPEG whose header Pillow can read to RGB or CMYK, as libjpeg gives it.

    A JPEG with one scan is decoded twice more: with extra bytes after each restart interval, which must change no
    pixel, and with the last bytes of each interval replaced, which must change its last block. These checks run at
    full size, so that both decode modes refuse the same files.

    Raises:
        UndecodableImage: pixels are missing or corrupt, as far as these checks can tell.
    """
    if header.visited > 0 or "progressive" in header.coding:
        return _pillows(file + END_MARKER, header, part)
    *_, (_, _, begin) = segments(Piecewise((file,)))
    start = up_to_marker(file, begin)
    intervals = [*_RESTART_MARKER.split(start[begin:])]
    markers = [*_RESTART_MARKER.findall(start, begin), END_MARKER]
    pixels, more, less = (
        _pillows(
            start[:begin] + b"".join(bytes_ + marker for bytes_, marker in zip(ends, markers, strict=True)), header, 1
        )
        for ends in (
            intervals,
            [interval + NOISE_BYTES for interval in intervals],
            [interval.rstrip(interval[-1:])[:-_REPLACED_BYTES] + NOISE_BYTES for interval in intervals],
        )
    )
    if not np.array_equal(pixels, more):
        raise UndecodableImage(
            f"the image is damaged: {equal_rows(pixels, more)} of {header.height} rows could be read"
        )
    if not _end_there((pixels != less).any(2), file, header, markers):
        raise UndecodableImage(
            f"the image is damaged: 0 of {header.height} rows could be read in full: bytes are left over, or a restart "
            "marker is missing"
        )
    return pixels if part == 1 else _pillows(start + END_MARKER, header, part)


def _end_there(changed: NDArray[np.bool_], file: bytes, header: Header, markers: list[bytes]) -> bool:
    """Return whether all announced restart intervals are there, in order, and the last block of each has changed."""
    interval, across, down = 0, 8, 8
    for marker, start, end in segments(Piecewise((file,))):
        if marker == _RESTART_INTERVAL_MARKER:
            interval = int.from_bytes(file[start : start + 2])
        elif marker in CODINGS:
            samplings = file[start + 7 : end : 3]
            across, down = 8 * max(both >> 4 for both in samplings), 8 * max(both & 15 for both in samplings)
    columns = -(-header.width // across)
    blocks = columns * -(-header.height // down)
    interval = interval or blocks
    lasts = [min(end, blocks) - 1 for end in range(interval, blocks + interval, interval)]
    in_order = [0xD0 + number % 8 for number in range(len(lasts) - 1)]
    return [marker[1] for marker in markers[:-1]] == in_order and all(
        changed[last // columns * down :, last % columns * across :][:down, :across].any() for last in lasts
    )


def _pillows(file: bytes, header: Header, part: int) -> Pixels:
    with Image.open(io.BytesIO(file), formats=("JPEG",)) as image:
        if part > 1:
            image.draft(None, (header.width // part, header.height // part))
        image.load()
        return 255 - np.asarray(image) if header.channels == 4 else np.array(image.convert("RGB"))


def equal_rows(one: Pixels, other: Pixels) -> int:
    """Return the number of rows before the first that differs."""
    different = np.flatnonzero((one != other).reshape(len(one), -1).any(1))
    return int(different[0]) if len(different) else len(one)
