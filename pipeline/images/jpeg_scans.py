"""The scans of a JPEG: how many there are, and how much of the picture all of them visit together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.images.piecewise import Piecewise

MAX_SCANS: Final = 500
"""Scans that a JPEG may have, as in NVIDIA's DALI; programs write ten. Counting ends one above that."""

_START_OF_SCAN_BYTES: Final = b"\xff\xda"
_ALL_COEFFICIENTS: Final = (1 << 64) - 1  # of a block, a bit each
_MAX_HEADER_BYTES: Final = 12  # the number of components, two bytes for each of four, three bytes


@dataclass(frozen=True, slots=True)
class Scans:
    """All scans of a JPEG. A sample is a value of one component; subsampling leaves fewer than one a pixel."""

    count: int
    visited: float  # samples a pixel that all scans together visit
    refined: float  # of these, samples whose 63 AC coefficients get another bit; of fewer coefficients a part
    complete: bool = True  # they bring every coefficient of every component, to its last bit


SINGLE_SCAN: Final = Scans(1, 0.0, 0.0)
"""The scan of a JPEG that has all of its components in one."""


def read_scans(file: Piecewise, start: int, samples: Mapping[int, float], *, lossless: bool = False) -> Scans:
    """Reads the headers of the scans. Bytes in a comment that look like one are taken for one.

    Args:
        file: a JPEG.
        start: where its first scan begins.
        samples: of each component, by its number, samples a pixel.
        lossless: it has no coefficients.
    """
    count, visited, refined = 0, 0.0, 0.0
    left = dict.fromkeys(samples, _ALL_COEFFICIENTS)
    for at in file.find_all(_START_OF_SCAN_BYTES, start):
        header = file.read(at + 4, _MAX_HEADER_BYTES)
        ends = 1 + 2 * (header[0] if header else 0)
        selected = sum(samples.get(number, 1.0) for number in header[1:ends:2])
        first, last, bits = header[ends : ends + 3].ljust(3, b"\0")
        if lossless or not bits & 0x0F:
            brought = _ALL_COEFFICIENTS if lossless else (2 << last) - (1 << first)
            left.update((number, left[number] & ~brought) for number in header[1:ends:2] if number in left)
        count, visited = count + 1, visited + selected
        if first and bits >> 4:
            refined += selected * max(0, min(last, 63) - first + 1) / 63
        if count > MAX_SCANS:
            break
    return Scans(count, visited, refined, not any(left.values()))
