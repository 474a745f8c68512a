"""Valid files that cost a decoder much work for few bytes.

Each file is just within the limits of the shipped configuration, so that the service has to decode it. All are
generated on request, the same in every run, most of them in milliseconds.

    COSTLY["webp, lossless"]()      the file, bytes
"""

import functools
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from PIL import Image

from harness.photographs import encoded

_RGB, _RGBA, _GREY = 2, 6, 0  # colour types of PNG
_PAETH: Final = 4
"""PNG row filter that costs the most to undo."""

_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The seven passes of an interlaced PNG: x, y, step in x, step in y."""

# ---- JPEG (T.81) ----------------------------------------------------------------------------------------------------

_SHORTEST_LONG_RUN: Final = 1 << 14
_LONGEST_RUN: Final = (1 << 15) - 1


def segment(marker: int, body: bytes) -> bytes:
    """Make a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def _entropy_coded(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def _table(number: int, codes: Sequence[tuple[int, int]]) -> bytes:
    """Make a Huffman table from pairs of (length of the code, symbol), the shortest first. Number 0x10: AC."""
    counts = [sum(length == bits for bits, _ in codes) for length in range(1, 17)]
    return segment(0xC4, bytes([number, *counts, *(symbol for _, symbol in codes)]))


def _frame(marker: int, size: tuple[int, int], components: int) -> bytes:
    """Make the start of a JPEG: quantisation by 1, the frame without subsampling."""
    width, height = size
    parts = b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + b"\1" * 64)
        + segment(marker, struct.pack(">BHHB", 8, height, width, components) + parts)
    )


def _scan(components: Sequence[int], first: int, last: int, high: int = 0, low: int = 0) -> bytes:
    """Make the header of a scan: coefficients `first` to `last`, bit `low`, after the bits from `high` upwards."""
    parts = b"".join(bytes([number, 0]) for number in components)
    return segment(0xDA, bytes([len(components)]) + parts + bytes([first, last, high << 4 | low]))


def _blocks(size: tuple[int, int]) -> int:
    return -(-size[0] // 8) * -(-size[1] // 8)


def _nothing(blocks: int) -> bytes:
    """Make runs of blocks without new bits, with table 0x10 of `_RUN_CODES`."""
    bits = ""
    while blocks >= _SHORTEST_LONG_RUN:
        run = min(blocks, _LONGEST_RUN)
        bits += "0" + format(run - _SHORTEST_LONG_RUN, "014b")
        blocks -= run
    return _entropy_coded(bits + "10" * blocks)


_RUN_CODES: Final = ((1, 0xE0), (2, 0x00))  # "0" and 14 bits: a run of 16,384 blocks or more; "10": one


def progressive_jpeg(size: tuple[int, int], components: int, refinements: int, *, bands: int = 1) -> bytes:
    """Make a JPEG of zero coefficients, sent bit by bit: each scan of 20 to 100 bytes visits every block.

    Args:
        size: width and height.
        components: 1 or 3.
        refinements: scans that add a bit to each band, 13 at most.
        bands: number of parts of the 63 coefficients, each with its own scans.
    """
    edges = [1 + 63 * band // bands for band in range(bands + 1)]
    nothing, every = _nothing(_blocks(size)), range(1, components + 1)
    scans = [
        _scan([component], first, after - 1, high=low + 1 if low < refinements else 0, low=low) + nothing
        for component in every
        for first, after in pairwise(edges)
        for low in range(refinements, -1, -1)
    ]
    return (
        _frame(0xC2, size, components)
        + _table(0x00, [(1, 0)])
        + _table(0x10, _RUN_CODES)
        + _scan(every, 0, 0)
        + _entropy_coded("0" * (_blocks(size) * components))
        + b"".join(scans)
        + b"\xff\xd9"
    )


def dense_jpeg(size: tuple[int, int], components: int) -> bytes:
    """Make a baseline JPEG with two bits a coefficient: 16 bytes, and 64 symbols to look up, in each block."""
    tables = _table(0x00, [(2, 0)]) + _table(0x10, [(1, 0x01)])
    block = _entropy_coded("00" + "01" * 63)
    scan = _scan(range(1, components + 1), 0, 63)
    return _frame(0xC0, size, components) + tables + scan + block * (_blocks(size) * components) + b"\xff\xd9"


def empty_jpeg(size: tuple[int, int], components: int) -> bytes:
    """Make a baseline JPEG with two bits a block."""
    tables = _table(0x00, [(1, 0)]) + _table(0x10, [(1, 0x00)])
    pixels = _entropy_coded("00" * (_blocks(size) * components))
    return _frame(0xC0, size, components) + tables + _scan(range(1, components + 1), 0, 63) + pixels + b"\xff\xd9"


_INTERVAL: Final = bytes.fromhex(
    "4bc6000000000000b43a000000000000000002e74037b4297c5d3424af01be2a27a6caf0b411186c65fe0dd07d8ff9438cf4457c3f065d17d4"
)
"""50 rows of 880 blocks with only the last coefficient 1: the coder learns this and then needs no further bits."""

_END_OF_LAST_INTERVAL: Final = bytes.fromhex(
    "3a82c39655949a654864321ce9f743ce243ce198a046a6959dae59566d8a7e934d9747096458d43187bd530dcc2f43863fff00fbf10aa57e96"
    "33c3e24c9fe9217b16e8b989ec80f5c920263327c6fbc61c1966c7a9561b2261824eaefeb3feb6f6b7302317616d9e3f8d46b3122a"
)
"""End of the last 30 rows: blocks of other coefficients, as trailing zeros would not be written."""


def arithmetic_jpeg() -> bytes:
    """Make a JPEG of 49 megapixels in 8 kB; a decoder makes 65 decisions a block."""
    frame = _frame(0xC9, (7040, 7040), 1) + segment(0xCC, b"\x00\x10\x10\x05")
    restarts = segment(0xDD, struct.pack(">H", 50 * 880))
    intervals = b"".join(_INTERVAL + bytes([0xFF, 0xD0 + number % 8]) for number in range(17))
    last = _INTERVAL + bytes(6567) + _END_OF_LAST_INTERVAL
    return frame + restarts + _scan([1], 0, 63) + intervals + last + b"\xff\xd9"


# ---- PNG ------------------------------------------------------------------------------------------------------------


def paeth_png(size: tuple[int, int], *, depth: int = 8, colour: int = _RGB, interlaced: bool = False) -> bytes:
    """Make a PNG of one colour whose rows all have the costliest filter."""
    width, height = size
    bits = depth * {_GREY: 1, _RGB: 3, _RGBA: 4}[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [
        (bytes([_PAETH]) + bytes(-(-(-(-(width - x) // across) * bits) // 8)), -(-(height - y) // down))
        for x, y, across, down in passes
    ]
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", _deflated(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _deflated(rows: Sequence[tuple[bytes, int]]) -> bytes:
    """Make a zlib stream from pairs of (bytes, repetitions). Each part is compressed once, independent by a flush."""
    stream, checksum = [b"\x78\xda"], 1
    for row, times in rows:
        together = min(times, 256)
        for repeated, count in ((row * together, times // together), (row * (times % together), 1)):
            deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            stream.append((deflate.compress(repeated) + deflate.flush(zlib.Z_FULL_FLUSH)) * count)
            for _ in range(count):
                checksum = zlib.adler32(repeated, checksum)
    return b"".join([*stream, b"\x03\x00", struct.pack(">I", checksum)])


def png_of_many_chunks(size: tuple[int, int], chunks: int) -> bytes:
    """Make a PNG with `chunks` additional chunks, each with a text of one letter."""
    file = paeth_png(size)
    after_header = 8 + 25
    return file[:after_header] + _chunk(b"tEXt", b"a\0b") * chunks + file[after_header:]


# ---- WebP (RFC 9649) ------------------------------------------------------------------------------------------------


class _Bits:
    """Writer of bits, from the lowest bit of each byte upwards."""

    def __init__(self) -> None:
        self._value = self._count = 0

    def put(self, *pairs: tuple[int, int]) -> None:
        """Append pairs of (value, number of bits)."""
        for value, bits in pairs:
            self._value |= value << self._count
            self._count += bits

    def codes(self, *symbols: int) -> None:
        """Append the five prefix codes of an image, each with one symbol, so that a pixel takes no bits."""
        for symbol in symbols:
            self.put((1, 1), (0, 1), (1, 1), (symbol, 8))

    def __bytes__(self) -> bytes:
        return self._value.to_bytes(-(-self._count // 8), "little")


def _riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _vp8l(size: tuple[int, int]) -> bytes:
    """Make a lossless image of one colour, with the three transforms that cost the most to undo."""
    bits = _Bits()
    bits.put((0x2F, 8), (size[0] - 1, 14), (size[1] - 1, 14), (0, 1), (0, 3))
    bits.put((1, 1), (0, 2), (7, 3), (0, 1))  # predictor: in blocks of 512, each with the predictor "select"
    bits.codes(11, 0, 0, 0, 0)
    bits.put((1, 1), (1, 2), (7, 3), (0, 1))  # colour
    bits.codes(3, 5, 7, 0, 0)
    bits.put((1, 1), (2, 2))  # green is subtracted
    bits.put((0, 1), (0, 1), (0, 1))  # no further transform, no colour cache, one group of codes
    bits.codes(0, 1, 2, 255, 0)
    return bytes(bits) + bytes(8)


def lossless_webp(size: tuple[int, int]) -> bytes:
    """Make a lossless WebP of any size in 70 bytes."""
    return _riff((b"VP8L", _vp8l(size)))


def lossy_webp(size: tuple[int, int]) -> bytes:
    """Make a lossy WebP of one colour with alpha, which is a second, lossless image."""
    return encoded(Image.new("RGBA", size, (200, 30, 30, 99)), "WEBP", quality=80, method=0)


def animated_webp(size: tuple[int, int], frames: int) -> bytes:
    """Make a WebP whose first frame fills the canvas; the others have one pixel each."""

    def frame(size: tuple[int, int]) -> tuple[bytes, bytes]:
        at, no_time = bytes(6), bytes(4)
        image = _vp8l(size)
        image += b"\0" * (len(image) % 2)
        sizes = b"".join((length - 1).to_bytes(3, "little") for length in size)
        return b"ANMF", at + sizes + no_time + b"VP8L" + struct.pack("<I", len(image)) + image

    canvas = b"".join((length - 1).to_bytes(3, "little") for length in size)
    head = ((b"VP8X", b"\x02\0\0\0" + canvas), (b"ANIM", bytes(6)))
    return _riff(*head, frame(size), *[frame((1, 1))] * (frames - 1))


def _cached(make: Callable[..., bytes], *arguments: Any, **options: Any) -> Callable[[], bytes]:
    return functools.cache(functools.partial(make, *arguments, **options))


COSTLY_FILES: Final[dict[str, Callable[[], bytes]]] = {
    "jpeg, two bits a coefficient": _cached(dense_jpeg, (7040, 7040), 1),
    "jpeg, two bits a coefficient, in colour": _cached(dense_jpeg, (4640, 4640), 3),
    "jpeg, arithmetic": arithmetic_jpeg,
    "jpeg, too long to be reduced": _cached(empty_jpeg, (65_000, 500), 3),
    "jpeg, progressive, 49 megapixels": _cached(progressive_jpeg, (7040, 7040), 1, 11),
    "jpeg, progressive, in colour": _cached(progressive_jpeg, (5000, 5000), 3, 7),
    "jpeg, progressive, 379 scans": _cached(progressive_jpeg, (3584, 2048), 1, 5, bands=63),
    "png, RGB": _cached(paeth_png, (5300, 5300)),
    "png, RGBA, 16 bits, interlaced": _cached(paeth_png, (3400, 3400), depth=16, colour=_RGBA, interlaced=True),
    "png, 1 bit, interlaced": _cached(paeth_png, (6900, 6900), depth=1, colour=_GREY, interlaced=True),
    "png, many chunks": _cached(png_of_many_chunks, (5000, 5000), 8_000),
    "webp, lossless": _cached(lossless_webp, (5300, 5300)),
    "webp, lossy with alpha": _cached(lossy_webp, (4500, 4500)),
    "webp, animated": _cached(animated_webp, (5300, 5300), 1_000),
}
"""Functions that make files near the limits, by kind of work; decoding each takes 0.1 to 0.5 s of one core."""
