"""Photographs that are sent where services are broken on purpose, and files in which something is wrong."""

import functools
from typing import Final

from harness.photographs import jpeg, photograph, png_file

_SENT: Final = ("cat", "espresso", "astronaut", "rocket")


@functools.cache
def photographs() -> tuple[bytes, ...]:
    """JPEGs of 0.1 to 0.3 megapixels."""
    return tuple(jpeg(photograph(name)) for name in _SENT)


def truncated() -> bytes:
    """A photograph whose second half is missing: its header is whole, its pixels are not."""
    whole = photographs()[0]
    return whole[: len(whole) // 2]


def announced_bomb() -> bytes:
    """A PNG whose header says 50,000 x 50,000, with the pixels of one row behind it."""
    return _black_png(50_000, rows=1)


@functools.cache
def decodable_bomb() -> bytes:
    """A well-formed PNG of 12,000 x 12,000 black pixels in 0.4 MB; Pillow only warns of it, and needs 0.6 GB."""
    return _black_png(12_000, rows=12_000)


def _black_png(side: int, *, rows: int) -> bytes:
    """By hand, row by row: Pillow would need all its pixels in memory."""
    return png_file((side, side), [bytes(1 + 3 * side)] * rows)
