"""The header of an encoded image: its format, its size, and the values that tell the cost of decoding.

Headers are read in pure Python, without any decoder, so the replica may read those of untrusted files.
"""

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from pipeline.errors import EmptyImage, UndecodableImage, UnsupportedFormat
from pipeline.images.jpeg_header import read_frame
from pipeline.images.piecewise import Piecewise
from pipeline.images.signature import (
    HEAD_BYTES,
    USUAL_FORMAT_NAMES,
    Damaged,
    NotDecoded,
    cut_off,
    kind_of,
    start_within,
)
from pipeline.records import Bytes

MAX_COUNTED_CHUNKS: Final = 10_000
"""Number of chunks at which counting stops; a file may have more."""

_SEARCHED_BYTES: Final = 1 << 16
"""Bytes searched for a start marker if a file does not begin with one, and for the sizes in an AVIF or HEIC."""

_CHANNELS_OF_PNG: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS_OF_PNG: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Channels and bit depths by colour type: grey, RGB, palette, grey with alpha, RGB with alpha (PNG, 11.2.1)."""

_MAX_PNG_SIDE_PX: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Header:
    """An encoded image as its header describes it."""

    format: str  # Pillow's name: "JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF" or "HEIF"
    width: int  # px, as stored: before the orientation is applied
    height: int
    coding: str  # JPEG: a name in `jpeg_header.CODINGS`; WebP: "lossy" or "lossless"; PNG: "interlaced" or "plain"
    channels: int  # of the stored pixels
    scans: int  # start-of-scan markers of a JPEG, counted up to one above `jpeg_scans.MAX_SCANS`; else 1
    chunks: int  # segments of a JPEG before its pixels, chunks of a PNG or WebP; at most `MAX_COUNTED_CHUNKS`
    bytes: int  # of the file
    bit_depth: int  # of each channel
    samples: float = 1.0  # JPEG: of all channels for each pixel; 1.5 for a photograph in 4:2:0
    visited: float = 0.0  # JPEG with several scans: samples a pixel that all scans together visit
    refined: float = 0.0  # JPEG: of these, samples whose 63 AC coefficients get another bit
    complete: bool = True  # JPEG: its scans hold every coefficient of every channel, to its last bit


def read_header(pieces: Sequence[Bytes], formats: tuple[str, ...]) -> Header:
    """Read the header of an image.

    Args:
        pieces: the file, in one piece or in several consecutive pieces; they are not joined.
        formats: Pillow's names of the accepted formats.

    Raises:
        EmptyImage: there are no bytes.
        UnsupportedFormat: the file is not an image, or of a kind that is not decoded; the message names the kind.
        UndecodableImage: the file begins as an image of one of `formats`, but its header is cut off or damaged.
    """
    file = Piecewise(pieces)
    if not file.size:
        raise EmptyImage("the image has no bytes")
    head = file.read(0, HEAD_BYTES)
    kind = kind_of(head)
    format_ = "HEIF" if kind == "HEIC" else kind
    if format_ not in formats or format_ not in _HEADER_READERS:
        raise _refused(kind, head, file, formats)
    try:
        return _HEADER_READERS[format_](file)
    except NotDecoded as error:
        raise _unsupported(str(error), formats) from error
    except Damaged as error:
        raise _undecodable(str(error)) from error
    except struct.error as error:
        raise _undecodable(f"its header is cut off after {file.size} bytes") from error


def _undecodable(why: str) -> UndecodableImage:
    return UndecodableImage(f"the image cannot be decoded: {why}")


def _unsupported(kind: str, formats: tuple[str, ...]) -> UnsupportedFormat:
    *others, last = (USUAL_FORMAT_NAMES.get(name, name) for name in formats)
    accepted = f"{', '.join(others)} and {last}" if others else last
    return UnsupportedFormat(f"unsupported image format ({kind}); this service accepts {accepted}")


def _refused(kind: str, head: bytes, file: Piecewise, formats: tuple[str, ...]) -> UnsupportedFormat | UndecodableImage:
    begun = cut_off(head)
    if begun in formats:
        return _undecodable(f"it is cut off after {file.size} bytes of a {USUAL_FORMAT_NAMES.get(begun, begun)}")
    if head.startswith(b"\x89PNG") and "PNG" in formats:
        return _undecodable("the first 8 bytes of the PNG were changed, as a transfer as text does")
    if kind in ("unknown", "text", "zero bytes"):
        kind = start_within(file.read(0, _SEARCHED_BYTES)) or kind
    return _unsupported(USUAL_FORMAT_NAMES.get(kind, kind), formats)


# ---- one function per format-----------------------------------------------------------------------------------------


def _jpeg(file: Piecewise) -> Header:
    frame = read_frame(file)
    return Header(
        "JPEG",
        frame.width,
        frame.height,
        frame.coding,
        frame.channels,
        frame.scans.count,
        frame.segments,
        file.size,
        frame.bit_depth,
        samples=sum(frame.components.values()),
        visited=frame.scans.visited,
        refined=frame.scans.refined,
        complete=frame.scans.complete,
    )


def _png(file: Piecewise) -> Header:
    length, name, width, height, depth, colour, deflate, filters, interlaced = struct.unpack(
        ">I4sIIBBBBB", file.read(8, 21)
    )
    if name == b"CgBI":
        raise NotDecoded("PNG in Apple's own coding, CgBI")
    if name != b"IHDR" or length != 13:
        raise Damaged("the PNG does not begin with its header (IHDR)")
    if not (0 < width <= _MAX_PNG_SIDE_PX and 0 < height <= _MAX_PNG_SIDE_PX):
        raise Damaged(f"the PNG's header says {width} x {height} pixels")
    if depth not in _DEPTHS_OF_PNG.get(colour, ()) or deflate or filters or interlaced > 1:
        raise Damaged(f"the PNG's header says colour type {colour} of {depth} bits, which does not exist")
    coding = "interlaced" if interlaced else "plain"
    chunks = _count_chunks(file, 8, "big", padded=False)
    return Header("PNG", width, height, coding, _CHANNELS_OF_PNG[colour], 1, chunks, file.size, depth)


def _count_chunks(file: Piecewise, start: int, order: Literal["big", "little"], *, padded: bool) -> int:
    """Count the chunks of a PNG (big) or RIFF file (little) from `start` on, up to `MAX_COUNTED_CHUNKS`."""
    at, found = start, 0
    length_at, around = (0, 12) if order == "big" else (4, 8)
    while at + 8 <= file.size and found < MAX_COUNTED_CHUNKS:
        size = int.from_bytes(file.read(at + length_at, 4), order)
        at += around + size + (size & padded)
        found += 1
    return found


def _webp(file: Piecewise) -> Header:
    name = file.read(12, 4)
    if name == b"VP8X":
        flags, *sides = struct.unpack("<B3x3s3s", file.read(20, 10))
        width, height = (1 + int.from_bytes(side, "little") for side in sides)
        at, chunks = _webp_pixels(file)
        coding = "lossless" if file.read(at, 4) == b"VP8L" else "lossy"
        return Header("WEBP", width, height, coding, 4 if flags & 0x10 else 3, 1, chunks, file.size, 8)
    chunks = _count_chunks(file, 12, "little", padded=True)
    if name == b"VP8 ":
        tag, start, width, height = struct.unpack("<3s3sHH", file.read(20, 10))
        width, height = width & 0x3FFF, height & 0x3FFF
        if start != b"\x9d\x01\x2a" or tag[0] & 1 or not (width and height):
            raise Damaged("the header of its WebP frame makes no sense")
        return Header("WEBP", width, height, "lossy", 3, 1, chunks, file.size, 8)
    if name == b"VP8L":
        mark, bits = struct.unpack("<BI", file.read(20, 5))
        if mark != 0x2F or bits >> 29:
            raise Damaged("the header of its WebP frame makes no sense")
        width, height, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bits >> 28 & 1
        return Header("WEBP", width, height, "lossless", 3 + alpha, 1, chunks, file.size, 8)
    raise Damaged("the WebP does not begin with a frame" if len(name) == 4 else "its header is cut off")


def _webp_pixels(file: Piecewise) -> tuple[int, int]:
    """Return the offset of the first frame's pixels in an extended WebP, and the number of chunks in the file."""
    at, pixels, found = 12, 0, 0
    while at + 8 <= file.size and found < MAX_COUNTED_CHUNKS:
        name, size = struct.unpack("<4sI", file.read(at, 8))
        found += 1
        if not pixels and name in (b"VP8 ", b"VP8L"):
            pixels = at
        inside = name == b"ANMF" and not pixels  # the chunks of a frame follow its position and duration
        at += 8 + (16 if inside else size + (size & 1))
    return pixels, found


def _gif(file: Piecewise) -> Header:
    width, height, flags = struct.unpack("<HHB", file.read(6, 5))
    if not (width and height):
        raise Damaged(f"the GIF's header says {width} x {height} pixels")
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    inside = False  # within an extension: its parts follow each other up to an empty one
    for found in range(MAX_COUNTED_CHUNKS):
        block = file.read(at, 9)
        if inside:
            inside = block[:1] > b"\0"
            at += 1 + (block or b"\0")[0]
        elif block[:1] == b"!":
            inside = True
            at += 2
        elif block[:1] == b",":  # the first picture, which may reach beyond the screen
            left, top, across, down = struct.unpack("<4H", block[1:])
            width, height = max(width, left + across), max(height, top + down)
            return Header("GIF", width, height, "", 1, 1, found + 1, file.size, 8)
        else:
            raise Damaged("the GIF has no picture")
    raise Damaged(f"more than {MAX_COUNTED_CHUNKS} blocks come before the GIF's picture")


def _bmp(file: Piecewise) -> Header:
    if int.from_bytes(file.read(14, 4), "little") == 12:
        width, height, bits = struct.unpack("<HH2xH", file.read(18, 8))
    else:
        width, height, bits = struct.unpack("<ii2xH", file.read(18, 12))
    if width <= 0 or not height:
        raise Damaged(f"the BMP's header says {width} x {height} pixels")
    return Header("BMP", width, abs(height), "", max(1, bits // 8), 1, 1, file.size, 8)


def _iso(file: Piecewise, name: str) -> Header:
    """Read AVIF and HEIC: the largest of the sizes in the file's properties, tiles and thumbnails included."""
    sizes = [
        struct.unpack(">II", found[1])
        for found in re.finditer(rb"\0\0\0\x14ispe\0{4}(.{8})", file.read(0, _SEARCHED_BYTES), re.DOTALL)
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if not (width and height):
        raise Damaged("its header names no size")
    return Header(name, width, height, "", 3, 1, len(sizes), file.size, 8)


_HEADER_READERS: Final[dict[str, Callable[[Piecewise], Header]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "AVIF": partial(_iso, name="AVIF"),
    "HEIF": partial(_iso, name="HEIF"),
}
