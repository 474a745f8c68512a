"""A JPEG of which libjpeg warns: which flaws cost no pixel, and how many rows of the others could be read.

libjpeg goes on after damage and gives grey or garbage in place of what is missing. What it says of that (`jerror.h`) is
all there is to tell it by, and it only says the first thing. These flaws are no damage: the end marker is missing after
the last row; a few bytes, or a filling of one byte, lie between the last row and the end marker; an application's
segment makes no sense. Where random changes of the entropy-coded bytes of a baseline photograph left bytes over at all,
they left 11 or more; zeros and the like come from encoders that fill up to a border.
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
from pipeline.images.jpeg_header import segments
from pipeline.images.jpeg_sampling import decode_odd_sampling, equal_rows
from pipeline.images.piecewise import Piecewise

_END_MARKER: Final = b"\xff\xd9"
_MISSING_END_WARNING: Final = "Premature end of JPEG file"
_SEGMENT_WARNINGS: Final = ("JFIF revision", "Adobe color transform", "ICC")
_EXTRA_BYTES_WARNING: Final = re.compile(r"(\d+) extraneous bytes before marker 0x(\w\w)")
_SAMPLING_WARNING: Final = "subsampling"
"""simplejpeg refuses samplings of the colours that have no name; Pillow decodes them."""

_EARLY_END_WARNING: Final = "premature end of data segment"
_STRIPPED_ZEROS: Final = bytes(32)
"""The zeros that an encoder may leave out at the end.

With 6, 30 of 36 pictures that are flat below a photograph were taken for cut off, with 24 none; of 360 photographs
that were cut off, 32 leave 2 unnoticed.
"""

_CONVERSION_WARNING: Final = "Unsupported color conversion"

_HARMLESS_EXTRA_BYTES: Final = 8
"""Left over before the end marker, they are no damage, whatever they are."""

_MAX_REPAIRS: Final = 4
_NOISE_BYTES: Final = bytes((97 * place + 229) % 251 for place in range(1, 2000))
_FILLER_BYTES: Final = _NOISE_BYTES + b"".join(bytes((0xFF, 0xD0 + number)) + _NOISE_BYTES for number in range(8))
"""In place of the bytes that are missing: the rows which it changes are those that could not be read.

It goes on at every restart marker, of which libjpeg waits for a certain one.
"""

_OTHER_MARKER: Final = re.compile(rb"\xff++[^\x00\xd0-\xd7\xff]", re.DOTALL)
_UNWRITTEN_BYTES: Final = bytes(64)
"""Bytes of a part of a file that was never written to its disk."""

_MAX_SEARCHED_PIXELS: Final = 30_000_000
_MAX_SEARCHED_BYTES: Final = 8 << 20
_MAX_SEARCH_STEPS: Final = 7
"""Steps of the search for the first corrupt byte: to 1/128 of the file, or fewer where the image is large.

Each step decodes the file up to somewhere, so there are only as many as these pixels and bytes allow in all. The rows
of a file of more bytes are not counted: one that was damaged on purpose would cost five times its price.
"""

Pixels = NDArray[np.uint8]
Decode = Callable[[memoryview | bytes, Header, int], Pixels]


def decode_flawed(data: memoryview, header: Header, part: int, flaw: str, decode: Decode) -> Pixels:
    """Decodes a JPEG that libjpeg has warned of, where its flaws cost no pixel.

    Args:
        data: an encoded image.
        header: its own.
        part: of its width and height.
        flaw: what libjpeg has said of it.
        decode: raises ValueError with the first warning of libjpeg.

    Raises:
        UndecodableImage: they do; the message says how many rows could be read.
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
    """Decodes a JPEG in arithmetic coding, of which libjpeg does not notice the end.

    Its decoder goes on with zeros, since those at the end are not written (T.81, D.1.8). So a few zeros and then noise
    are put in place of the end marker: of a whole picture, none of the noise is read.

    Args:
        data: an encoded image.
        decode: raises ValueError with the first warning of libjpeg, when it is done.

    Raises:
        ValueError: libjpeg warns of something else, or the picture is not whole.
    """
    file = bytes(data)
    end = file.find(_END_MARKER, _pixels_at(file))
    start = file[:end] if end >= 0 else file
    try:
        decode(start + _STRIPPED_ZEROS + _NOISE_BYTES + _END_MARKER)
    except ValueError as error:
        left_over = _EXTRA_BYTES_WARNING.search(str(error))
        if not left_over or left_over[2] != "d9":
            raise
        own = int(left_over[1]) - len(_NOISE_BYTES)
        if own > len(_STRIPPED_ZEROS):
            raise ValueError(f"{own - len(_STRIPPED_ZEROS)} extraneous bytes before marker 0xd9") from error
        if own >= 0:
            return
    raise ValueError(_EARLY_END_WARNING)


def check_scans(header: Header) -> None:
    """Raises `UndecodableImage` where coefficients are in no scan: libjpeg takes them for zero, and says nothing."""
    if not header.complete:
        raise UndecodableImage(_of_scans(header))


# ---- flaws that are no damage ---------------------------------------------------------------------------------------


def _mended(file: bytes, flaw: str, channels: int) -> bytes | None:
    """The file without that flaw, where it costs no pixel; None where it may."""
    if flaw.startswith(_MISSING_END_WARNING):
        return file + _END_MARKER
    left_over = _EXTRA_BYTES_WARNING.search(flaw)
    if left_over and left_over[2] == "d9":
        count, end = int(left_over[1]), file.find(_END_MARKER, _pixels_at(file))
        harmless = count <= _HARMLESS_EXTRA_BYTES or _is_filling(file, end - count, end)
        return file[: end - count] + file[end:] if harmless else None
    if left_over or any(words in flaw for words in _SEGMENT_WARNINGS):
        return _needed(file, channels)
    return None


def _is_filling(file: bytes, start: int, end: int) -> bool:
    """Whether bytes are a filling: all the same, and other bytes before them, or pixels were overwritten too."""
    before = file[start - len(_UNWRITTEN_BYTES) : start]
    return len(set(file[start:end])) == 1 and set(before) != {file[start]}


def _needed(file: bytes, channels: int) -> bytes:
    """The file without comments, metadata and bytes between segments; of APPn only JFIF and Adobe tell the colours."""
    parts = [file[:2]]
    end = 2
    for marker, start, end in segments(Piecewise((file,))):
        body = _mended_colours(marker, file[start:end], channels)
        if body is not None:
            parts.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
    return b"".join([*parts, file[end:]])


def _mended_colours(marker: int, body: bytes, channels: int) -> bytes | None:
    """A segment as libjpeg takes it where it warns; None where it leaves it out."""
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
    """Whether everything was sound until the bytes ended."""
    return _EARLY_END_WARNING in flaw or "found marker 0xd9" in flaw


def _sound_part(file: bytes, header: Header, decode: Decode) -> bytes:
    """The file up to about where it becomes corrupt: the longest part of which libjpeg says only that it ends early."""
    part = 8 if header.coding != "lossless" else 1
    low = _pixels_at(file)
    blank = file.find(_UNWRITTEN_BYTES, low)
    high = blank if blank >= 0 else len(file)
    steps = min(
        _MAX_SEARCH_STEPS, _MAX_SEARCHED_PIXELS // (header.width * header.height), _MAX_SEARCHED_BYTES // len(file)
    )
    middle = high  # first all of it: most are cut off, and nothing else
    for _ in range(steps + 1):
        try:
            decode(file[:middle] + _END_MARKER, header, part)
            sound = True
        except ValueError as error:
            sound = _ends_early(str(error))
        low, high = (middle, high) if sound else (low, middle)
        if low == high:
            break
        middle = (low + high) // 2
    return file[:low]


def _rows(file: bytes, header: Header) -> int:
    """Rows that do not change when what is missing is filled up in one way or another."""
    part = 8 if header.coding != "lossless" else 1
    start, filled = _cut(file)
    least = {"min_height": -(-header.height // part), "min_width": -(-header.width // part)} if part > 1 else {}
    try:
        one, other = (
            simplejpeg.decode_jpeg(end, {1: "GRAY", 3: "RGB", 4: "CMYK"}[header.channels], strict=False, **least)
            for end in (start + _END_MARKER, filled)
        )
    except ValueError:  # a table is missing: there is no row
        return 0
    return min(part * equal_rows(one, other), (header.height - 1) // part * part)  # the last one is not whole


def _cut(file: bytes) -> tuple[bytes, bytes]:
    """The file up to the marker after its entropy-coded bytes, and the same with other bytes and an end behind it."""
    end = _OTHER_MARKER.search(file, _pixels_at(file))
    start = (file[: end.start()] if end else file).rstrip(b"\xff")
    return start, start + _FILLER_BYTES + _END_MARKER


def _pixels_at(file: bytes) -> int:
    """Where the entropy-coded bytes of the first scan begin."""
    *_, (_, _, end) = segments(Piecewise((file,)))
    return end


def _has_scans(header: Header) -> bool:
    """Whether one scan need not hold everything."""
    return header.visited > 0 or "progressive" in header.coding
