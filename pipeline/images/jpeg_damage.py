"""Damaged JPEGs: decides which of libjpeg's warnings cost no pixels, and counts the readable rows of other files.

libjpeg goes on after damage and gives grey or garbage in place of missing pixels. Only its warnings (`jerror.h`) tell,
and only the first warning is reported. These flaws are not damage: the end marker is missing after the last row; a few
bytes, or a padding of one repeated byte, lie between the last row and the end marker; an application segment is
invalid. If random changes of the entropy-coded bytes of a baseline photograph left bytes over at all, they left 11 or
more; zeros and the like come from encoders that pad the file.
"""

import re
import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipeline.errors import UndecodableImage, UnsupportedFormat
from pipeline.images.header import Header
from pipeline.images.jpeg_entropy import END_MARKER, NOISE_BYTES, up_to_marker
from pipeline.images.jpeg_header import segments
from pipeline.images.jpeg_sampling import decode_odd_sampling, equal_rows
from pipeline.images.piecewise import Piecewise

_MISSING_END_WARNING: Final = "Premature end of JPEG file"
_SEGMENT_WARNINGS: Final = ("JFIF revision", "Adobe color transform", "ICC")
_EXTRA_BYTES_WARNING: Final = re.compile(r"(\d+) extraneous bytes before marker 0x(\w\w)")
_SAMPLING_WARNING: Final = "subsampling"
"""Word in simplejpeg's error for chroma subsampling without a name in TurboJPEG; Pillow decodes such files."""

_EARLY_END_WARNING: Final = "premature end of data segment"
_STRIPPED_ZEROS: Final = bytes(32)
"""The zeros that an arithmetic encoder may leave out at the end.

With 6 zeros, 30 of 36 complete pictures with a flat lower part were taken for cut off, with 24 zeros none; with 32, 2
of 360 photographs that were cut off went unnoticed.
"""

_CONVERSION_WARNING: Final = "Unsupported color conversion"

_HARMLESS_EXTRA_BYTES: Final = 8
"""Number of bytes left over before the end marker that are never damage, whatever their values."""

_MAX_REPAIRS: Final = 4
_FILLER_BYTES: Final = NOISE_BYTES + b"".join(bytes((0xFF, 0xD0 + number)) + NOISE_BYTES for number in range(8))
"""Bytes put in place of missing ones: the rows that change with them are the rows that could not be read.

It contains every restart marker, since libjpeg waits for a certain one.
"""

_UNWRITTEN_BYTES: Final = bytes(64)
"""A run of zeros, as in a part of a file that was never written to disk."""

_MAX_SEARCHED_PIXELS: Final = 30_000_000
_MAX_SEARCHED_BYTES: Final = 8 << 20
_MAX_SEARCH_STEPS: Final = 7
"""Steps of the search for the first corrupt byte: finds it within 1/128 of the file. Large images get fewer steps.

Each step decodes a part of the file, so the limits on pixels and bytes above limit the number of steps. In a file of
more bytes rows are not counted at all: a file that was damaged on purpose would take five times its cost.
"""

Pixels = NDArray[np.uint8]
Decode = Callable[[memoryview | bytes, Header, int], Pixels]


def decode_flawed(data: memoryview, header: Header, part: int, flaw: str, decode: Decode) -> Pixels:
    """Decode a JPEG that libjpeg warned about, if its flaws cost no pixels.

    Args:
        data: an encoded image.
        header: header of the image.
        part: reduction of width and height: 1, 2, 4 or 8.
        flaw: libjpeg's first warning.
        decode: decodes a file, and raises ValueError with the first warning of libjpeg.

    Raises:
        UndecodableImage: pixels are missing or corrupt; the message says how many rows could be read.
        UnsupportedFormat: the file is of a rare kind that no decoder here supports.
    """
    file = bytes(data)
    for _ in range(_MAX_REPAIRS):
        if _SAMPLING_WARNING in flaw:
            if "arithmetic" in header.coding:
                raise UnsupportedFormat("unsupported image format (JPEG in arithmetic coding and of an odd sampling)")
            return decode_odd_sampling(_needed(file, header.channels), header, part)
        if _CONVERSION_WARNING in flaw:
            raise UnsupportedFormat("unsupported image format (lossless JPEG in other colours than RGB or grey)")
        mended = _mended(file, flaw, header.channels)
        if mended is None or mended == file:
            break
        file = mended
        try:
            return decode(file, header, part)
        except ValueError as error:
            flaw = str(error)
    raise UndecodableImage(_in_words(file, header, flaw, decode))


def decode_arithmetic(data: memoryview | bytes, decode: Callable[[bytes], None]) -> None:
    """Decode a JPEG in arithmetic coding; libjpeg does not notice when such a file ends early.

    Its decoder goes on with zeros, since zeros at the end are not written (T.81, D.1.8). So a few zeros and then noise
    replace the end marker: if the picture is complete, none of the noise is read.

    Args:
        data: an encoded image.
        decode: decodes a file, and then raises ValueError with the first warning of libjpeg.

    Raises:
        ValueError: libjpeg warns of something else, or the picture is not complete.
    """
    file = bytes(data)
    end = file.find(END_MARKER, _pixels_at(file))
    start = file[:end] if end >= 0 else file
    try:
        decode(start + _STRIPPED_ZEROS + NOISE_BYTES + END_MARKER)
    except ValueError as error:
        left_over = _EXTRA_BYTES_WARNING.search(str(error))
        if not left_over or left_over[2] != "d9":
            raise
        own = int(left_over[1]) - len(NOISE_BYTES)
        if own > len(_STRIPPED_ZEROS):
            raise ValueError(f"{own - len(_STRIPPED_ZEROS)} extraneous bytes before marker 0xd9") from error
        if own >= 0:
            return
    raise ValueError(_EARLY_END_WARNING)


def check_scans(header: Header) -> None:
    """Raise `UndecodableImage` if coefficients are in no scan: libjpeg takes them for zero without a warning."""
    if not header.complete:
        raise UndecodableImage(_of_scans(header))


# ---- flaws that are no damage ---------------------------------------------------------------------------------------


def _mended(file: bytes, flaw: str, channels: int) -> bytes | None:
    """Return the file without that flaw if the flaw costs no pixels; None if it may cost some."""
    if flaw.startswith(_MISSING_END_WARNING):
        return file + END_MARKER
    left_over = _EXTRA_BYTES_WARNING.search(flaw)
    if left_over and left_over[2] == "d9":
        count, end = int(left_over[1]), file.find(END_MARKER, _pixels_at(file))
        harmless = count <= _HARMLESS_EXTRA_BYTES or _is_filling(file, end - count, end)
        return file[: end - count] + file[end:] if harmless else None
    if left_over or any(words in flaw for words in _SEGMENT_WARNINGS):
        return _needed(file, channels)
    return None


def _is_filling(file: bytes, start: int, end: int) -> bool:
    """Return whether bytes are padding: all the same, but not those before them, else pixels are overwritten too."""
    before = file[start - len(_UNWRITTEN_BYTES) : start]
    return len(set(file[start:end])) == 1 and set(before) != {file[start]}


def _needed(file: bytes, channels: int) -> bytes:
    """Return the file without comments, metadata and stray bytes; of APPn, only JFIF and Adobe (colours) are kept."""
    parts = [file[:2]]
    end = 2
    for marker, start, end in segments(Piecewise((file,))):
        body = _mended_colours(marker, file[start:end], channels)
        if body is not None:
            parts.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
    return b"".join([*parts, file[end:]])


def _mended_colours(marker: int, body: bytes, channels: int) -> bytes | None:
    """Return a segment with the values that libjpeg assumes after its warning; None for a segment that it ignores."""
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return b"JFIF\0\1\1\0\0\1\0\1\0\0"
    if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
        return body[:11] + bytes((body[11] if body[11] <= 2 else 2 if channels == 4 else 1,))
    return None if 0xE0 <= marker <= 0xEF or marker == 0xFE else body


# ---- rows of a damaged file -----------------------------------------------------------------------------------------


def _in_words(file: bytes, header: Header, flaw: str, decode: Decode) -> str:
    left_over = _EXTRA_BYTES_WARNING.search(flaw)
    if _has_scans(header):
        return _of_scans(header)
    if _UNWRITTEN_BYTES not in file:
        if left_over and left_over[2] == "d9":
            return f"{_of_rows(header.height, header)}, and {left_over[1]} bytes are left over"
        if _ends_early(flaw):
            return _of_rows(_rows(file, header), header)
    if len(file) > _MAX_SEARCHED_BYTES:
        return f"the image is damaged: fewer than {header.height} of {header.height} rows could be read"
    return _of_rows(_rows(_sound_part(file, header, decode), header), header)


def _of_rows(rows: int, header: Header) -> str:
    return f"the image is damaged: {rows} of {header.height} rows could be read"


def _of_scans(header: Header) -> str:
    return f"{_of_rows(0, header)} in full: a scan is cut off, corrupt or missing"


def _ends_early(flaw: str) -> bool:
    """Return whether the file is sound up to its end, and only ends too early."""
    return _EARLY_END_WARNING in flaw or "found marker 0xd9" in flaw


def _sound_part(file: bytes, header: Header, decode: Decode) -> bytes:
    """Return the file up to about its first corrupt byte: the longest part that libjpeg only calls cut off."""
    part = 8 if header.coding != "lossless" else 1
    low = _pixels_at(file)
    blank = file.find(_UNWRITTEN_BYTES, low)
    high = blank if blank >= 0 else len(file)
    steps = min(
        _MAX_SEARCH_STEPS, _MAX_SEARCHED_PIXELS // (header.width * header.height), _MAX_SEARCHED_BYTES // len(file)
    )
    middle = high  # first the whole file: most damaged files are only cut off
    for _ in range(steps + 1):
        try:
            decode(file[:middle] + END_MARKER, header, part)
            sound = True
        except ValueError as error:
            sound = _ends_early(str(error))
        low, high = (middle, high) if sound else (low, middle)
        if low == high:
            break
        middle = (low + high) // 2
    return file[:low]


def _rows(file: bytes, header: Header) -> int:
    """Count the rows that do not depend on the bytes put in place of the missing ones."""
    part = 8 if header.coding != "lossless" else 1
    start, filled = _cut(file)
    least = {"min_height": -(-header.height // part), "min_width": -(-header.width // part)} if part > 1 else {}
    try:
        one, other = (
            simplejpeg.decode_jpeg(end, {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.channels], strict=False, **least)
            for end in (start + END_MARKER, filled)
        )
    except ValueError:  # a table is missing: no row can be read
        return 0
    return min(part * equal_rows(one, other), (header.height - 1) // part * part)  # the last row is not complete


def _cut(file: bytes) -> tuple[bytes, bytes]:
    """Return the file up to the marker after its entropy-coded bytes, and the same with filler and an end marker."""
    start = up_to_marker(file, _pixels_at(file))
    return start, start + _FILLER_BYTES + END_MARKER


def _pixels_at(file: bytes) -> int:
    """Return the offset of the first scan's entropy-coded bytes."""
    *_, (_, _, end) = segments(Piecewise((file,)))
    return end


def _has_scans(header: Header) -> bool:
    """Return whether the pixels may be spread over several scans."""
    return header.visited > 0 or "progressive" in header.coding
