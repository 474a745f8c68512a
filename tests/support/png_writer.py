"""PNGs of kinds that Pillow does not write: any depth, colour type and interlacing, and chunks of any content.

png(samples, colour)        samples of any depth as a file (PNG 1.2, sections 11 and 12)
chunks(file), joined(...)   a file taken apart into names and bodies, and put together with right checksums
with_chunks(file, ...)      a file with chunks right behind its header
"""

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
GREY: Final = 0
RGB: Final = 2
PALETTE: Final = 3
GREY_ALPHA: Final = 4
RGB_ALPHA: Final = 6

_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""x, y, step in x, step in y of the seven passes of an interlaced PNG."""

Chunk = tuple[bytes, bytes]
"""Name and body of a chunk."""


def chunk(name: bytes, body: bytes = b"", *, checksum: int | None = None) -> bytes:
    """Return a chunk with its length and its checksum, or with a wrong one."""
    right = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", right if checksum is None else checksum)


def chunks(file: bytes) -> list[Chunk]:
    """Return name and body of each chunk of a valid file."""
    found: list[Chunk] = []
    at = len(SIGNATURE)
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        found.append((file[at + 4 : at + 8], file[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def joined(parts: Iterable[Chunk]) -> bytes:
    """Return the file of these chunks."""
    return SIGNATURE + b"".join(chunk(name, body) for name, body in parts)


def with_chunks(file: bytes, *added: bytes, behind: bytes = b"IHDR") -> bytes:
    """Return the file with whole chunks, as `chunk` makes them, right behind the first one of that name."""
    at = file.index(behind) - 4
    at += 12 + struct.unpack_from(">I", file, at)[0]
    return file[:at] + b"".join(added) + file[at:]


def header(width: int, height: int, depth: int, colour: int, *, interlaced: bool = False) -> Chunk:
    """Return the name and body of IHDR."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def filtered(samples: NDArray[Any], depth: int, *, interlaced: bool = False, filters: Iterable[int] = (0,)) -> bytes:
    """Return rows behind their filter bytes, before they are compressed.

    Args:
        samples: [height, width, channels] of `depth` bits.
        depth: bits a sample.
        interlaced: whether the rows are those of the seven passes of Adam7.
        filters: filters of the rows, repeated; only 0 (none) and 1 (the pixel on the left is subtracted).
    """
    passes = [samples[y::down, x::across] for x, y, across, down in _ADAM7] if interlaced else [samples]
    rows = (row for each in passes if each.size for row in each)
    return b"".join(_row(row, depth, how) for row, how in zip(rows, itertools.cycle(filters), strict=False))


def _row(row: NDArray[Any], depth: int, how: int) -> bytes:
    if depth == 16:
        packed = row.astype(">u2").ravel().view(np.uint8)
    elif depth == 8:
        packed = row.astype(np.uint8).ravel()
    else:
        bits = row.astype(np.uint8).reshape(-1, 1) >> np.arange(depth - 1, -1, -1) & 1
        packed = np.packbits(bits.astype(np.uint8).ravel())
    if how:
        step = max(1, depth * row.shape[1] // 8)
        packed = np.concatenate([packed[:step], packed[step:] - packed[:-step]])
    return bytes([how]) + packed.tobytes()


def png(
    samples: NDArray[Any],
    colour: int,
    *,
    depth: int = 8,
    interlaced: bool = False,
    filters: Iterable[int] = (0,),
    before: Iterable[Chunk] = (),
) -> bytes:
    """Return a valid file of samples [height, width, channels]; `before` are the chunks between header and pixels."""
    height, width, _ = samples.shape
    data = zlib.compress(filtered(samples, depth, interlaced=interlaced, filters=filters), 6)
    head = header(width, height, depth, colour, interlaced=interlaced)
    return joined([head, *before, (b"IDAT", data), (b"IEND", b"")])


def split(file: bytes, sizes: Iterator[int]) -> bytes:
    """Return the file with its pixels in IDAT chunks of these sizes."""
    parts = chunks(file)
    data = b"".join(body for name, body in parts if name == b"IDAT")
    at = next(n for n, (name, _) in enumerate(parts) if name == b"IDAT")
    pieces: list[Chunk] = []
    while data:
        size = next(sizes)
        pieces.append((b"IDAT", data[:size]))
        data = data[size:]
    others = [part for part in parts if part[0] != b"IDAT"]
    return joined([*others[:at], *pieces, *others[at:]])
