"""Photographs for tests of broken services, and damaged or malicious files."""

import functools
from typing import Final

from harness.photographs import jpeg, photograph, png_file

_PHOTOGRAPH_NAMES: Final = ("cat", "espresso", "astronaut", "rocket")


@functools.cache
def photographs() -> tuple[bytes, ...]:
    """Make JPEGs of 0.1 to 0.3 megapixels."""
    return tuple(jpeg(photograph(name)) for name in _PHOTOGRAPH_NAMES)


def truncated() -> bytes:
    """Make a photograph whose second half is missing: its header is complete, its pixels are not."""
    whole = photographs()[0]
    return whole[: len(whole) // 2]


def announced_bomb() -> bytes:
    """Make a PNG whose header announces 50,000 x 50,000, followed by the pixels of one row."""
    return _black_png(50_000, rows=1)


@functools.cache
def decodable_bomb() -> bytes:
    """Make a valid PNG of 12,000 x 12,000 black pixels in 0.4 MB; Pillow only warns, and needs 0.6 GB to decode it."""
    return _black_png(12_000, rows=12_000)


def _black_png(side: int, *, rows: int) -> bytes:
    """Write a black PNG row by row: Pillow would need all pixels in memory."""
    return png_file((side, side), [bytes(1 + 3 * side)] * rows)
