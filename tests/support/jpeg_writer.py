"""JPEGs of kinds that Pillow does not write: any sampling, many scans, lossless, 12 bits, DNL, two components.

    coded(image, samplings)     a picture as quantised coefficients: `Coded`
    sequential(coded)           one scan of it (T.81 F); also with restarts, DNL, other start-of-frame markers
    progressive(coded, bands)   one scan for each component and each band of coefficients (T.81 G)
    lossless(image)             its samples, each predicted from the one on its left (T.81 H)

All codes of the Huffman tables have nearly the same length: the files are large for their pictures, and the writer is
short. Sections are those of ITU-T T.81.
"""

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.jpeg_segments import DHT, DNL, DQT, DRI, END, SOF0, SOF2, SOF3, SOS, START, segment

FULL: Final = ((1, 1), (1, 1), (1, 1))
"""Samplings of 4:4:4: horizontal and vertical factors, one pair a component."""

COLOUR_SAMPLINGS: Final = {
    "4:4:4": FULL,
    "4:2:2": ((2, 1), (1, 1), (1, 1)),
    "4:2:0": ((2, 2), (1, 1), (1, 1)),
    "4:1:1": ((4, 1), (1, 1), (1, 1)),
    "4:4:0": ((1, 2), (1, 1), (1, 1)),
    "4:1:0": ((4, 2), (1, 1), (1, 1)),
    "3x1": ((3, 1), (1, 1), (1, 1)),
}
"""Samplings that photograph encoders write, by name; the last has no name in TurboJPEG."""

_CMYK: Final = 4
_MODES: Final = {1: "L", 2: "LA", 3: "YCbCr", _CMYK: "CMYK"}

_DC_TABLE: Final = bytes([0, 0, 0, 0, 16] + [0] * 11) + bytes(range(16))
"""Sixteen codes of 5 bits: symbol n is the number n."""
_AC_TABLE: Final = bytes([0] * 7 + [128, 128] + [0] * 7) + bytes(range(256))
"""Symbols below 128 have 8 bits, the others 9."""

_ZIGZAG: Final = sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8))
_BASIS: Final = np.array(
    [[(0.5 if u else 0.125**0.5) * np.cos((2 * x + 1) * u * np.pi / 16) for x in range(8)] for u in range(8)]
)


# ---- bits -----------------------------------------------------------------------------------------------------------


class _Bits:
    """A writer of bits that adds a zero byte behind each byte of ones (T.81 B.1.1.5)."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def add(self, value: int, length: int) -> None:
        if length:
            self._bits.append(format(value, f"0{length}b"))

    def dc(self, difference: int) -> None:
        size = abs(difference).bit_length()
        self.add(size, 5)
        self.magnitude(difference, size)

    def ac(self, symbol: int) -> None:
        self.add(*((symbol, 8) if symbol < 128 else (128 + symbol, 9)))

    def magnitude(self, value: int, size: int) -> None:
        self.add(value if value >= 0 else value + (1 << size) - 1, size)

    def flushed(self) -> bytes:
        bits = "".join(self._bits)
        bits += "1" * (-len(bits) % 8)
        self._bits = []
        return int(bits or "0", 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


# ---- coefficients ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coded:
    """A picture as quantised coefficients."""

    width: int
    height: int
    precision: int  # bits a sample
    samplings: tuple[tuple[int, int], ...]  # horizontal and vertical factor of each component
    blocks: tuple[NDArray[np.int64], ...]  # [rows, columns, 64] of each component, in zigzag order; whole MCUs
    step: int  # quantisation step

    @property
    def most(self) -> tuple[int, int]:
        """Return the largest horizontal and vertical factor."""
        across, down = zip(*self.samplings, strict=True)
        return max(across), max(down)


def coded(
    image: Image.Image, samplings: Sequence[tuple[int, int]] = FULL, *, step: int = 4, precision: int = 8
) -> Coded:
    """Return the picture with one component for each sampling: grey, grey with another, YCbCr or CMYK."""
    samplings = tuple(samplings)
    most_across, most_down = (max(factors) for factors in zip(*samplings, strict=True))
    samples = np.asarray(image.convert(_MODES[len(samplings)]), float).reshape(image.height, image.width, -1)
    if len(samplings) == _CMYK:
        samples = 255 - samples  # inverted, as Adobe's programs store it and all others assume
    rows, columns = -image.height % (8 * most_down), -image.width % (8 * most_across)
    padded = np.pad(samples, ((0, rows), (0, columns), (0, 0)), mode="edge") * 2 ** (precision - 8)
    blocks = tuple(
        _blocks(_shrunk(padded[..., n], most_across // across, most_down // down) - 2 ** (precision - 1), step)
        for n, (across, down) in enumerate(samplings)
    )
    return Coded(image.width, image.height, precision, samplings, blocks, step)


def _shrunk(plane: NDArray[Any], across: int, down: int) -> NDArray[Any]:
    height, width = plane.shape
    shrunk: NDArray[Any] = plane.reshape(height // down, down, width // across, across).mean((1, 3))
    return shrunk


def _blocks(plane: NDArray[Any], step: int) -> NDArray[np.int64]:
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    transformed = (_BASIS @ blocks @ _BASIS.T).reshape(height // 8, width // 8, 64)
    rounded: NDArray[np.int64] = np.rint(transformed[..., _ZIGZAG] / step).astype(np.int64)
    return rounded


def frame(marker: int, picture: Coded, height: int | None = None, first_id: int = 1) -> bytes:
    """Return the frame header, with `height` in place of the picture's own."""
    parts = [bytes([first_id + n, across << 4 | down, 0]) for n, (across, down) in enumerate(picture.samplings)]
    announced = picture.height if height is None else height
    size = struct.pack(">BHHB", picture.precision, announced, picture.width, len(parts))
    return segment(marker, size + b"".join(parts))


def _tables(step: int) -> bytes:
    return segment(DQT, b"\0" + bytes([step] * 64)) + huffman_tables()


def huffman_tables() -> bytes:
    """Return the tables that every file of this module uses."""
    return segment(DHT, b"\x00" + _DC_TABLE) + segment(DHT, b"\x10" + _AC_TABLE)


def _scan(components: Sequence[int], first: int, last: int, high: int = 0, low: int = 0) -> bytes:
    parts = b"".join(bytes([1 + n, 0]) for n in components)
    return segment(SOS, bytes([len(components)]) + parts + bytes([first, last, high << 4 | low]))


# ---- one scan -------------------------------------------------------------------------------------------------------


def sequential(
    picture: Coded, *, marker: int = SOF0, restart: int = 0, height: int | None = None, dnl: bool = False
) -> bytes:
    """Write the picture in one scan.

    Args:
        picture: the picture to write.
        marker: SOF0 or SOF1.
        restart: MCUs between restart markers; 0 is none.
        height: height to announce instead of the picture's own.
        dnl: whether the frame announces no height and a segment behind the scan does (T.81 B.2.5).
    """
    head = START + _tables(picture.step) + frame(marker, picture, 0 if dnl else height)
    interval = segment(DRI, struct.pack(">H", restart)) if restart else b""
    lines = segment(DNL, struct.pack(">H", picture.height)) if dnl else b""
    scan = _scan(range(len(picture.blocks)), 0, 63)
    return head + interval + scan + _interleaved(picture, restart) + lines + END


def _interleaved(picture: Coded, restart: int) -> bytes:
    data, bits = b"", _Bits()
    before = [0] * len(picture.blocks)
    for mcu, blocks in enumerate(_mcus(picture)):
        if restart and mcu and not mcu % restart:
            data += bits.flushed() + bytes([0xFF, 0xD0 + (mcu // restart - 1) % 8])
            before = [0] * len(picture.blocks)
        for n, values in blocks:
            first, *others = values.tolist()
            bits.dc(first - before[n])
            before[n] = first
            _add_ac(bits, others)
    return data + bits.flushed()


def _mcus(picture: Coded) -> Iterator[list[tuple[int, NDArray[np.int64]]]]:
    """Yield component and coefficients of each block, one list an MCU.

    A single component has one block an MCU (T.81 A.2).
    """
    across, down = picture.most
    rows, columns = -(-picture.height // (8 * down)), -(-picture.width // (8 * across))
    factors: Sequence[tuple[int, int]] = picture.samplings
    if len(picture.blocks) == 1:
        rows, columns, factors = -(-picture.height // 8), -(-picture.width // 8), ((1, 1),)
    for row, column in itertools.product(range(rows), range(columns)):
        yield [
            (n, picture.blocks[n][y, x])
            for n, (h, v) in enumerate(factors)
            for y, x in itertools.product(range(row * v, row * v + v), range(column * h, column * h + h))
        ]


def _add_ac(bits: _Bits, coefficients: Sequence[int]) -> None:
    """Write runs of zeros and the coefficients that end them (T.81 F.1.2.2)."""
    run = 0
    for coefficient in coefficients:
        if not coefficient:
            run += 1
            continue
        while run > 15:
            bits.ac(0xF0)
            run -= 16
        size = abs(coefficient).bit_length()
        bits.ac(run << 4 | size)
        bits.magnitude(coefficient, size)
        run = 0
    if run:
        bits.ac(0)


# ---- many scans -----------------------------------------------------------------------------------------------------


def progressive(picture: Coded, bands: Sequence[tuple[int, int]], repeated: int = 0) -> bytes:
    """Write a DC scan without the lowest bit, one with it, then the bands of each component.

    Args:
        picture: the picture to write.
        bands: first and last coefficient of each, from 1 to 63.
        repeated: empty scans behind them, which refine nothing and cost a pass over the picture each.
    """
    file = START + _tables(picture.step) + frame(SOF2, picture)
    file += _scan(range(len(picture.blocks)), 0, 0, low=1) + _dc(picture, refined=False)
    file += _scan(range(len(picture.blocks)), 0, 0, high=1) + _dc(picture, refined=True)
    for (first, last), n in itertools.product(bands, range(len(picture.blocks))):
        file += _scan([n], first, last) + _band(picture, n, first, last)
    first, last = bands[-1] if bands else (1, 63)
    return file + (_scan([0], first, last) + _band(picture, 0, first, last)) * repeated + END


def _dc(picture: Coded, *, refined: bool) -> bytes:
    bits, before = _Bits(), [0] * len(picture.blocks)
    for n, values in itertools.chain.from_iterable(_mcus(picture)):
        value = int(values[0])
        if refined:
            bits.add(value & 1, 1)
        else:
            bits.dc((value >> 1) - before[n])
            before[n] = value >> 1
    return bits.flushed()


def _band(picture: Coded, component: int, first: int, last: int) -> bytes:
    """Write a scan of one component, which has only its own blocks, without those that fill an MCU (T.81 A.2.2)."""
    (h, v), (across, down) = picture.samplings[component], picture.most
    rows, columns = -(-picture.height * v // (8 * down)), -(-picture.width * h // (8 * across))
    bits = _Bits()
    for y, x in itertools.product(range(rows), range(columns)):
        _add_ac(bits, picture.blocks[component][y, x, first : last + 1].tolist())
    return bits.flushed()


# ---- lossless -------------------------------------------------------------------------------------------------------


def lossless(image: Image.Image, *, precision: int = 8, marker: int = SOF3) -> bytes:
    """Write every sample as its difference from the one on its left (T.81 H.1.2.1), in grey or RGB."""
    samples = np.asarray(image, np.int64).reshape(image.height, image.width, -1) << (precision - 8)
    before = np.roll(samples, 1, axis=1)
    before[1:, 0] = samples[:-1, 0]
    before[0, 0] = 1 << (precision - 1)
    bits = _Bits()
    for difference in (samples - before).ravel().tolist():
        bits.dc(difference)
    count = samples.shape[2]
    picture = Coded(image.width, image.height, precision, ((1, 1),) * count, (), 1)
    dht = segment(DHT, b"\x00" + _DC_TABLE)
    return START + frame(marker, picture) + dht + _scan(range(count), 1, 0) + bits.flushed() + END
