"""Extracts the parts of a PNG that its pixels need, so that damage elsewhere in the file does not matter.

Texts, profiles and animations are removed before Pillow reads the file. Checksums of the pixels are verified, which
Pillow does not do. In a damaged file the readable rows are counted.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import UndecodableImage
from pipeline.images.header import Header
from pipeline.images.orientation import Metadata

_END_CHUNK: Final = b"\0\0\0\0IEND\xaeB`\x82"
_HEADER_BYTES: Final = 33  # signature and IHDR
_GREY_TYPE, _RGB_TYPE, _PALETTE_TYPE = 0, 2, 3
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp\0"
_RAW_EXIF_KEYWORD: Final = b"Raw profile type exif\0"
_MAX_TEXT_BYTES: Final = 1 << 20
"""Most bytes that are read of a text chunk that may contain the orientation."""

_INFLATED_AT_ONCE_BYTES: Final = 1 << 10
_ADAM7_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""x, y, step in x, step in y of the seven passes of an interlaced PNG (PNG, 8.2)."""


@dataclass(slots=True)
class _Chunks:
    """The chunks of one file that are used."""

    palette: memoryview | None = None
    transparency: memoryview | None = None
    pixels: list[memoryview] = field(default_factory=list)  # data of the IDAT chunks, without length, name and checksum
    exif: bytes = b""
    xmp: bytes = b""
    others: bool = False  # whether there are chunks that no pixel needs
    ended: bool = False  # whether IEND was found


def pixels_of_png(data: memoryview, header: Header) -> tuple[bytes | memoryview, Metadata]:
    """Return a PNG with the same pixels and nothing else, and the metadata that may contain its orientation.

    Raises:
        UndecodableImage: a checksum of the header, palette or pixels is wrong, or there are no pixels.
    """
    colour = data[25]
    _check(data[12:29], data[29:33], "header (IHDR)")
    found = _Chunks()
    for name, body, checksum in _chunks(data):
        _sort(found, name, body, checksum, header, colour)
    if not found.pixels:
        raise UndecodableImage(f"the image is damaged: 0 of {header.height} rows could be read")
    if colour == _PALETTE_TYPE and found.palette is None:
        raise UndecodableImage("the image cannot be decoded: the PNG has no palette (PLTE)")
    metadata = Metadata(found.exif, found.xmp)
    return (_joined(data[:_HEADER_BYTES], found) if found.others or not found.ended else data), metadata


def rows_of_png(data: memoryview, header: Header) -> int:
    """Count the rows that can be decompressed before the data ends or is corrupt."""
    pixels = [body for name, body, _ in _chunks(data) if name == b"IDAT"]
    return _rows(pixels, header, data[25])


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, bytes]]:
    """Yield name, data and checksum of each chunk after the header, up to IEND; the last may be cut off."""
    at = _HEADER_BYTES
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        yield name, body, bytes(data[at + 8 + length : at + 12 + length])
        if name == b"IEND":
            return
        at += 12 + length


def _sort(found: _Chunks, name: bytes, body: memoryview, checksum: bytes, header: Header, colour: int) -> None:
    """Store one chunk where it belongs. Of chunks that no pixel needs, only metadata are read."""
    if name == b"IDAT":
        if len(checksum) == 4 and zlib.crc32(body, zlib.crc32(name)).to_bytes(4) != checksum:
            rows = _rows(found.pixels, header, colour)
            raise UndecodableImage(
                f"the image is damaged: {rows} of {header.height} rows could be read; "
                "the checksum of those that follow is wrong"
            )
        found.pixels.append(body)
    elif name == b"PLTE" and colour == _PALETTE_TYPE and found.palette is None:
        _check(name + bytes(body), checksum, "palette (PLTE)")
        found.palette = body
    elif name == b"tRNS" and not found.pixels and _fits(body, checksum, found, colour):
        found.transparency = body
    elif name == b"IEND":
        found.ended = True
    else:
        found.others = True
        _note_metadata(found, name, body)


def _check(chunk: memoryview | bytes, checksum: memoryview | bytes, what: str) -> None:
    if zlib.crc32(chunk).to_bytes(4) != checksum:
        raise UndecodableImage(f"the image cannot be decoded: the checksum of the PNG's {what} is wrong")


def _fits(body: memoryview, checksum: bytes, found: _Chunks, colour: int) -> bool:
    """Return whether a tRNS has the length that its colour type requires and the right checksum, as in libpng."""
    palette = len(found.palette or b"") // 3
    wanted = {_GREY_TYPE: (2,), _RGB_TYPE: (6,), _PALETTE_TYPE: range(1, palette + 1)}.get(colour, ())
    return len(body) in wanted and zlib.crc32(body, zlib.crc32(b"tRNS")).to_bytes(4) == checksum


def _note_metadata(found: _Chunks, name: bytes, body: memoryview) -> None:
    """Store Exif and XMP, found as Pillow finds them, also in the form in which ImageMagick used to write Exif."""
    if name == b"eXIf":
        found.exif = bytes(body)
    elif name == b"iTXt" and bytes(body[: len(_XMP_KEYWORD)]) == _XMP_KEYWORD:
        found.xmp = _international(body[len(_XMP_KEYWORD) :])
    elif name in (b"tEXt", b"zTXt") and bytes(body[: len(_RAW_EXIF_KEYWORD)]) == _RAW_EXIF_KEYWORD and not found.exif:
        text = body[len(_RAW_EXIF_KEYWORD) : _MAX_TEXT_BYTES]
        found.exif = _from_hex(bytes(text) if name == b"tEXt" else _inflated(text[1:]))


def _international(body: memoryview) -> bytes:
    """Return the text of an iTXt from the part behind its keyword: compression, language, translated keyword, text."""
    *_, text = bytes(body[2:_MAX_TEXT_BYTES]).split(b"\0", 2)
    return _inflated(text) if bytes(body[:1]) == b"\1" else text


def _inflated(text: bytes | memoryview) -> bytes:
    try:
        return zlib.decompressobj().decompress(text, _MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _from_hex(text: bytes) -> bytes:
    """Decode a profile written in hex, after lines with its name and length."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _joined(start: memoryview, found: _Chunks) -> bytes:
    named = ((b"PLTE", found.palette), (b"tRNS", found.transparency), *((b"IDAT", body) for body in found.pixels))
    parts: list[bytes | memoryview] = [start]
    for name, body in named:
        if body is not None:
            checksum = zlib.crc32(body, zlib.crc32(name)).to_bytes(4)
            parts += (len(body).to_bytes(4), name, body, checksum)
    return b"".join([*parts, _END_CHUNK])


# ---- rows of a damaged file -----------------------------------------------------------------------------------------


def _rows(pixels: Sequence[memoryview], header: Header, colour: int) -> int:
    channels = {_GREY_TYPE: 1, _RGB_TYPE: 3, _PALETTE_TYPE: 1, 4: 2, 6: 4}[colour]
    bits = channels * header.bit_depth
    inflated = _inflated_bytes(pixels, _image_bytes(header, bits))
    if header.coding != "interlaced":
        return min(header.height, inflated // (1 + (header.width * bits + 7) // 8))
    for x, y, across, down in _ADAM7_PASSES:
        width, height = -(-(header.width - x) // across), -(-(header.height - y) // down)
        if width <= 0 or height <= 0:
            continue
        row_bytes = 1 + (width * bits + 7) // 8
        if inflated < row_bytes * height:
            # Only the last pass, which holds every second row, completes rows one by one.
            return min(header.height, 2 * (inflated // row_bytes) + 1) if (x, y) == (0, 1) else 0
        inflated -= row_bytes * height
    return header.height


def _image_bytes(header: Header, bits: int) -> int:
    """Return an upper bound for the bytes of all rows, interlaced or not."""
    return header.height * (16 + (header.width * bits + 7) // 8) * 2


def _inflated_bytes(pixels: Sequence[memoryview], most: int) -> int:
    """Count the bytes that can be decompressed, up to `most`; none of them is kept."""
    inflate, done = zlib.decompressobj(), 0
    for body in pixels:
        for start in range(0, len(body), _INFLATED_AT_ONCE_BYTES):
            rest: memoryview | bytes = body[start : start + _INFLATED_AT_ONCE_BYTES]
            while rest:
                try:
                    done += len(inflate.decompress(rest, 1 << 20))
                except zlib.error:
                    return done
                rest = inflate.unconsumed_tail
                if done >= most or inflate.eof:
                    return done
    return done
