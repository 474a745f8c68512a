"""Reads the frame header of a JPEG (ITU-T T.81, annex B) as libjpeg reads it.

The decoder must later find the same frame header as this module. So markers are followed as in libjpeg-turbo's
`jdmarker.c`, and a file at which libjpeg would stop is refused here.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from pipeline.images.jpeg_scans import SINGLE_SCAN, Scans, read_scans
from pipeline.images.piecewise import Piecewise
from pipeline.images.signature import Damaged, NotDecoded

CODINGS: Final = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic",
    0xCA: "arithmetic progressive",
}
"""Names of the codings that are decoded, by their marker."""

MAX_SEGMENTS: Final = 2000
"""Most segments before a JPEG's pixels. The largest known use is a colour profile, with up to 255 segments."""

_HIERARCHICAL_MARKERS: Final = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE)
_JPEG_LS_MARKERS: Final = (0xF7, 0xF8)
_LOSSLESS_MARKER: Final = 0xC3
_LOSSLESS_ARITHMETIC_MARKER: Final = 0xCB
_START_OF_SCAN_MARKER: Final = 0xDA
_DECODED_CHANNELS: Final = (1, 3, 4)
_MISPLACED_MARKERS: Final = {
    0xD8: "a second start marker stands in its header",
    0xD9: "it ends before its pixels",
    0xDA: "its pixels come before their frame header",
    **dict.fromkeys(CODINGS, "it has two frame headers"),
}
_MARKERS_WITHOUT_SEGMENT: Final = (0x01, *range(0xD0, 0xD8))
"""Markers without a segment: TEM and RST."""

_SKIPPED_MARKERS: Final = frozenset((0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))
"""Segments that do not affect the size: tables, DNL, restart interval, application segments and comments."""

_MAX_STRAY_BYTES: Final = 4096
"""Most bytes between two segments; libjpeg skips such bytes."""

_AFTER_STRAY_BYTES: Final = re.compile(rb"[^\xff]*+(?:\xff++\x00[^\xff]*+)*+\xff++([^\xff])", re.DOTALL)
"""Matches up to and with the next marker. It never backtracks: FF FF FF ... takes no longer than other bytes."""


@dataclass(frozen=True, slots=True)
class JpegFrame:
    """The frame header of a JPEG, its scans, and its number of segments."""

    coding: str  # a name in `CODINGS`
    width: int
    height: int
    channels: int
    bit_depth: int
    components: Mapping[int, float]  # samples a pixel by component number; 0.25 if both directions are subsampled
    scans: Scans = SINGLE_SCAN
    segments: int = 0  # before the pixels


def read_frame(file: Piecewise) -> JpegFrame:
    """Read a JPEG up to its first scan.

    Raises:
        NotDecoded: the JPEG is of a kind that is not decoded; the message names the kind.
        Damaged: the header is damaged; the message says how.
    """
    if file.read(0, 2) != b"\xff\xd8":
        raise Damaged("its header is damaged")
    at, frame = 2, None
    for segments in range(MAX_SEGMENTS):
        marker, length, at = _next_marker(file, at)
        if marker not in _SKIPPED_MARKERS:
            if marker in _MARKERS_WITHOUT_SEGMENT:
                continue
            if marker == _START_OF_SCAN_MARKER and frame:
                return _up_to_pixels(frame, file, at, segments)
            if marker not in CODINGS or frame:
                raise _why_not(marker)
            frame = _frame(marker, file.read(at, 20))
        if at + length > file.size or at + 2 > file.size:
            raise Damaged(f"it is cut off after {file.size} bytes, before its pixels")
        if length < 2:
            raise Damaged(f"its header is damaged: a segment of {length} bytes")
        at += length
    raise Damaged(f"more than {MAX_SEGMENTS} segments come before its pixels")


def segments(file: Piecewise) -> Iterator[tuple[int, int, int]]:
    """Yield marker, begin and end of each segment up to the pixels; the last is the header of the first scan.

    Raises:
        Damaged: the header is damaged, as in `read_frame`.
    """
    at, marker = 2, 0
    while marker != _START_OF_SCAN_MARKER:
        marker, length, at = _next_marker(file, at)
        if marker not in _MARKERS_WITHOUT_SEGMENT:
            end = at + length
            yield marker, at + 2, end
            at = end


def _next_marker(file: Piecewise, at: int) -> tuple[int, int, int]:
    """Return the next marker, the number in the two bytes after it (mostly a length), and the offset of those bytes."""
    four = file.read(at, 4)
    if len(four) == 4 and four[0] == 0xFF and 0 < four[1] < 0xFF:
        return four[1], four[2] << 8 | four[3], at + 2
    found = _AFTER_STRAY_BYTES.match(file.read(at, _MAX_STRAY_BYTES))
    if found:
        at += found.end()
        return found[1][0], int.from_bytes(file.read(at, 2)), at
    if at + _MAX_STRAY_BYTES >= file.size:
        raise Damaged(f"it is cut off after {file.size} bytes, before its pixels")
    raise Damaged("its header is damaged")


def _frame(marker: int, segment: bytes) -> JpegFrame:
    """Read the frame header from the first 8 bytes of its segment and 3 bytes for each component (T.81, B.2.2)."""
    try:
        length, bit_depth, height, width, channels = struct.unpack_from(">HBHHB", segment)
    except struct.error as error:
        raise Damaged("it is cut off in its frame header") from error
    coding = CODINGS[marker]
    if bit_depth != 8:
        raise NotDecoded(f"{bit_depth}-bit {'lossless ' * (marker == _LOSSLESS_MARKER)}JPEG; only 8 bits are decoded")
    if not height:
        raise NotDecoded("JPEG whose height follows its pixels (DNL)")
    if channels not in _DECODED_CHANNELS:
        raise NotDecoded(f"JPEG of {channels} components; only 1, 3 and 4 are decoded")
    if not width or length != 8 + 3 * channels:
        raise Damaged("its frame header is damaged")
    return JpegFrame(coding, width, height, channels, bit_depth, _samples(segment[8 : 8 + 3 * channels]))


@lru_cache(64)  # most files have the same few samplings
def _samples(components: bytes) -> dict[int, float]:
    """Return the samples a pixel of each component, by its number; read from its sampling factors across and down."""
    times = {number: (both >> 4) * (both & 15) for number, both in zip(components[::3], components[1::3], strict=False)}
    across, down = (max((both >> shift & 15 for both in components[1::3]), default=0) for shift in (4, 0))
    return {number: count / (across * down) if across and down else 1.0 for number, count in times.items()}


def _up_to_pixels(frame: JpegFrame, file: Piecewise, at: int, segments: int) -> JpegFrame:
    """Add the number of segments and, if the first scan does not hold the whole picture, the scans."""
    in_first_scan = int.from_bytes(file.read(at + 2, 1))
    if "progressive" in frame.coding or in_first_scan < frame.channels:
        scans = read_scans(file, at - 2, frame.components, lossless=frame.coding == "lossless")
        return replace(frame, scans=scans, segments=segments)
    return replace(frame, segments=segments)


def _why_not(marker: int) -> Exception:
    """Return the error for a marker at which libjpeg stops."""
    if marker in _HIERARCHICAL_MARKERS:
        return NotDecoded("hierarchical JPEG")
    if marker in _JPEG_LS_MARKERS:
        return NotDecoded("JPEG-LS")
    if marker == _LOSSLESS_ARITHMETIC_MARKER:
        return NotDecoded("lossless JPEG in arithmetic coding")
    return Damaged(_MISPLACED_MARKERS.get(marker, f"its header is damaged: marker {marker:02X}"))
