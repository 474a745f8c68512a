"""Small files that would cost much, and are refused for the contents of their header."""

import struct
from collections.abc import Iterator

from PIL import Image

from harness.photographs import encoded, png_file
from tests.odd.odd_file import OddFile, too_much
from tests.odd.seeds import cat, grey, samples
from tests.support.jpeg_segments import SOF0, SOF2
from tests.support.jpeg_writer import coded, progressive, sequential
from tests.support.png_writer import RGB, chunk, png, with_chunks


def costlies() -> Iterator[OddFile]:
    """Yield files that a service must not even begin to decode."""
    for width, height in ((50_000, 50_000), (65_500, 65_500), (2**31 - 1, 2**31 - 1), (100_000_000, 1)):
        yield too_much("too many pixels", f"PNG of {width} x {height}", png_file((width, height), ()), "pixels")
    yield too_much("too many pixels", "JPEG of 65500 x 65500", _announcing(sequential(coded(cat())), 65_500), "pixels")
    yield too_much("too many pixels", "WebP of 16000 x 16000", _webp(16_000), "pixels")
    yield too_much("too many pixels", "WebP of 7000 x 7000", _webp(7000), "pixels")
    yield too_much("too many scans", "3000 scans", _many_scans(3000), "scan")
    yield too_much("too many scans", "10000 scans", _many_scans(10_000), "scan")
    yield too_much("too many scans", "1500 scans of 7040 x 7040", _announcing(_many_scans(1500), 7040), "scan|pixels")
    text = chunk(b"tEXt", b"a\0b")
    yield too_much(
        "too many chunks", "200000 text chunks", with_chunks(png(samples(cat()), RGB), text * 200_000), "chunk"
    )


def _webp(side: int) -> bytes:
    """Return a small WebP of one colour with another size in its header, which has 14 bits for a side."""
    small = encoded(Image.new("RGB", (8, 8), (200, 30, 30)), "WEBP", lossless=True, quality=0, method=0)
    at = small.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", small, at)
    return small[:at] + struct.pack("<I", bits >> 28 << 28 | side - 1 << 14 | side - 1) + small[at + 4 :]


def _announcing(file: bytes, side: int) -> bytes:
    """Return the file with another size in its frame header; its few pixels are soon read."""
    at = max(file.find(bytes([0xFF, marker, 0, 11])) for marker in (SOF0, SOF2))
    at = (at if at > 0 else file.index(bytes([0xFF, SOF0, 0, 17]))) + 5
    return file[:at] + struct.pack(">HH", side, side) + file[at + 4 :]


def _many_scans(count: int) -> bytes:
    return progressive(coded(grey().resize((8, 8)), ((1, 1),)), [(1, 63)], repeated=count)
