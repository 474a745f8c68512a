"""The scans of a JPEG: their number, and the number of samples that all of them visit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.images.piecewise import Piecewise

MAX_SCANS: Final = 500
"""Most scans of a JPEG, as in NVIDIA's DALI; programs write about ten. Counting stops one above the limit."""

_START_OF_SCAN_BYTES: Final = b"\xff\xda"
_ALL_COEFFICIENTS: Final = (1 << 64) - 1  # of a block, one bit each
_MAX_HEADER_BYTES: Final = 12  # the number of components, two bytes for each of four, three bytes


@dataclass(frozen=True, slots=True)
class Scans:
    """All scans of a JPEG. A sample is one value of a component; subsampled components have fewer than one a pixel."""

    count: int
    visited: float  # samples a pixel that all scans together visit
    refined: float  # of these, samples whose 63 AC coefficients get another bit; fewer coefficients count in proportion
    complete: bool = True  # the scans hold every coefficient of every component, to its last bit


SINGLE_SCAN: Final = Scans(1, 0.0, 0.0)
"""The only scan of a JPEG that has all of its components in one scan."""


def read_scans(file: Piecewise, start: int, samples: Mapping[int, float], *, lossless: bool = False) -> Scans:
    """Read the headers of the scans. Bytes in a comment that look like a scan header count as one.

    Args:
        file: a JPEG.
        start: offset of its first scan.
        samples: samples a pixel of each component, by its number.
        lossless: whether the JPEG is lossless, and so has no coefficients.
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
