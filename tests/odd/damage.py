"""Damaged JPEGs and PNGs, which lack something that their pixels need or have it wrong."""

import itertools
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import simplejpeg

from harness.photographs import jpeg
from tests.odd.jpegs import SAMPLINGS
from tests.odd.odd_file import DAMAGED, OddFile, answered, by_pillow, damaged, refused_or
from tests.odd.seeds import cat, cut_out, grey, samples
from tests.support.jpeg_segments import DHT, DQT, END, SOF0, SOF2, SOS, joined, segments
from tests.support.jpeg_writer import coded, progressive, sequential
from tests.support.png_writer import GREY, PALETTE, RGB, RGB_ALPHA, Chunk, chunk, chunks, filtered, header, png
from tests.support.png_writer import joined as png_of

_CUTS = (5, 25, 50, 75, 90, 97)
_ROWS = r"\d.*rows|rows.*\d"
"""Pattern of a message about rows that were not read."""


def damages() -> Iterator[OddFile]:
    """Yield files that must be refused as damaged, except for damage that no decoder can notice."""
    for name, file in _jpegs().items():
        yield from _cut_jpeg(name, file)
        yield from _wrong_height(name, file)
        yield from _overwritten(name, file)
        yield from _flipped(name, file)
    yield from _restarts()
    yield from _structure()
    yield from _cut_pngs()
    yield from _png_pixels()
    yield from _png_structure()


def _jpegs() -> dict[str, bytes]:
    return {
        "Pillow's": jpeg(cat()),
        "Pillow's progressive": jpeg(cat(), progressive=True),
        "Pillow's grey": jpeg(grey()),
        "Pillow's CMYK": jpeg(cat().convert("CMYK")),
        "4:2:0": sequential(coded(cat(), SAMPLINGS["4:2:0"])),
        "3x1 with restarts": sequential(coded(cat(), SAMPLINGS["3x1"]), restart=4),
        "of 20 scans": progressive(coded(cat(), SAMPLINGS["4:2:0"]), [(n, n + 10) for n in range(1, 61, 10)]),
    }


def _start(file: bytes) -> int:
    """Return the offset of the entropy-coded data of the first scan."""
    at = file.index(bytes([0xFF, SOS]))
    return at + 2 + int(struct.unpack_from(">H", file, at + 2)[0])


def _scans(file: bytes) -> bool:
    return bytes([0xFF, SOF2]) in file


def _cut_jpeg(name: str, file: bytes) -> Iterator[OddFile]:
    """Yield truncated JPEGs. A progressive one has every row after its first scan, but not all of its detail."""
    says = "" if _scans(file) else _ROWS
    start, end = _start(file), len(file) - 2
    for percent in _CUTS:
        cut = file[: start + (end - start) * percent // 100]
        yield damaged("JPEG, cut", f"{name}, after {percent} %", cut, says)
        yield damaged("JPEG, cut, with an end marker", f"{name}, after {percent} %", cut + END, says)
    yield damaged("JPEG, cut", f"{name}, before its scan", file[:start])
    yield damaged("JPEG, cut", f"{name}, in its header", file[: start - 20])


def _wrong_height(name: str, file: bytes) -> Iterator[OddFile]:
    frame = max(file.find(bytes([0xFF, marker, 0])) for marker in (SOF0, SOF2))
    for times in (2, 4, 50):
        more = file[: frame + 5] + struct.pack(">H", cat().height * times) + file[frame + 7 :]
        yield damaged("JPEG, height too large", f"{name}, {times} times", more, "" if _scans(file) else _ROWS)
    fewer = file[: frame + 5] + struct.pack(">H", cat().height // 2) + file[frame + 7 :]
    yield refused_or("JPEG, height too small", name, fewer, None, DAMAGED)  # its upper half is sound
    none = file[: frame + 5] + bytes(2) + file[frame + 7 :]
    yield OddFile("JPEG, height of 0", name, none, (415, DAMAGED))  # a DNL segment could follow


def _overwritten(name: str, file: bytes) -> Iterator[OddFile]:
    start, end = _start(file), len(file) - 2
    for percent, what in itertools.product((10, 45, 80), (b"\0", b"\xff")):
        at, length = start + (end - start) * percent // 100, (end - start) // 10
        data = file[:at] + what * length + file[at + length :]
        kind = f"JPEG, a tenth overwritten with {'zeros' if what == bytes(1) else 'ones'}"
        yield _by_libjpeg(kind, f"{name}, at {percent} %", data)


def _flipped(name: str, file: bytes) -> Iterator[OddFile]:
    """Yield files with one or ten flipped bits, which a decoder notices only for some codes."""
    start, end = _start(file), len(file) - 2
    for seed, count in ((1, 1), (2, 10), (3, 10)):
        chance, data = np.random.default_rng(seed), bytearray(file)
        for at in chance.integers(start, end, count):
            data[at] ^= 1 << int(chance.integers(8))
        yield _by_libjpeg("JPEG, bits flipped", f"{name}, {count} bits, {seed}", bytes(data))


def _by_libjpeg(kind: str, name: str, data: bytes) -> OddFile:
    """Return a file that counts as damaged if libjpeg-turbo notices it, and must otherwise be answered.

    libjpeg-turbo cannot judge samplings without a name in its interface, and ignores a damaged scan header.
    """
    if "3x1" in name:
        lost = "overwritten" in kind  # it loses restart markers
        return damaged(kind, name, data) if lost else refused_or(kind, name, data, None, DAMAGED)
    if "20 scans" in name and "flipped" in kind:
        return refused_or(kind, name, data, None, DAMAGED)
    try:
        simplejpeg.decode_jpeg(data, colorspace="CMYK" if "CMYK" in name else "RGB", strict=True)
    except ValueError:
        return damaged(kind, name, data)
    return answered(kind, name, data, by_pillow(data))


def _restarts() -> Iterator[OddFile]:
    kind, file = "JPEG, restart markers", sequential(coded(cat(), SAMPLINGS["4:2:0"]), restart=2)
    marks = [at for at in range(_start(file), len(file) - 2) if file[at] == 0xFF and 0xD0 <= file[at + 1] <= 0xD7]
    one = marks[3]
    yield damaged(kind, "one lost", file[:one] + file[one + 2 :])
    yield damaged(kind, "one with its interval lost", file[:one] + file[marks[4] :])
    yield damaged(kind, "one out of order", file[: one + 1] + b"\xd7" + file[one + 2 :])
    yield damaged(kind, "one twice", file[:one] + file[one : one + 2] + file[one:])
    yield damaged(kind, "all lost", bytes(file[at] for at in range(len(file)) if not {at, at - 1} & set(marks)))


def _structure() -> Iterator[OddFile]:
    kind, file = "JPEG, parts missing or wrong", jpeg(cat())
    parts = segments(file)
    own = segments(sequential(coded(cat())))
    yield damaged(kind, "no quantisation tables", joined(part for part in parts if part[0] != DQT))
    yield damaged(kind, "no Huffman tables that it could mean", _without_tables(own))
    yield damaged(kind, "no frame header", joined(part for part in parts if part[0] != SOF0))
    yield damaged(kind, "no scan", joined(parts[:-1]) + END)
    yield damaged(kind, "two frame headers", _doubled(parts, SOF0))
    yield damaged(kind, "only its start marker", file[:2])
    yield damaged(kind, "only start and end markers", file[:2] + END)
    yield damaged(kind, "end marker before the scan", joined(parts[:3]) + END + joined(parts[3:])[2:])
    frame = dict(parts)[SOF0]
    for name, body in {
        "width of 0": frame[:3] + bytes(2) + frame[5:],
        "a sampling factor of 0": frame[:7] + b"\0" + frame[8:],
        "sampling factors of 15": frame[:7] + b"\xff" + frame[8:],
        "a table that is not there": frame[:8] + b"\3" + frame[9:],
        "cut": frame[:9],
    }.items():
        changed = joined((marker, body if marker == SOF0 else data) for marker, data in parts)
        yield damaged(kind, f"frame header: {name}", changed)
    none = joined((marker, frame[:5] + b"\0" if marker == SOF0 else data) for marker, data in parts)
    yield OddFile(kind, "frame header: no component", none, (415, DAMAGED))
    for name, change in _changed_scans().items():
        yield damaged(kind, f"scan header: {name}", joined([*parts[:-1], (SOS, change(parts[-1][1]))]))
    table = next(body for marker, body in parts if marker == DHT)
    for name, body in {
        "more codes than there are": table[:1] + b"\xff" * 16 + bytes(range(256)) * 16,
        "cut": table[:10],
        "of class 9": b"\x90" + table[1:],
    }.items():
        changed = joined((marker, body if data is table else data) for marker, data in parts)
        yield damaged(kind, f"Huffman table: {name}", changed)
    for name, length in (("of 0 bytes", 0), ("of 1 byte", 1), ("beyond the end", 65535)):
        at = file.index(bytes([0xFF, DQT]))
        wrong = file[: at + 2] + struct.pack(">H", length) + file[at + 4 :]
        yield damaged(kind, f"a segment {name}", wrong)


def _without_tables(own: list[tuple[int, bytes]]) -> bytes:
    """Return a JPEG without its own tables; those of Motion JPEG, which decoders use then, do not fit."""
    return joined(part for part in own if part[0] != DHT)


def _doubled(parts: list[tuple[int, bytes]], marker: int) -> bytes:
    return joined(itertools.chain.from_iterable([part] * (1 + (part[0] == marker)) for part in parts))


def _changed_scans() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "no component": lambda scan: b"\0" + scan[1:],
        "a component that is not there": lambda scan: scan[:1] + b"\x77" + scan[2:],
        "the same component thrice": lambda scan: scan[:1] + scan[1:3] * 3 + scan[7:],
        "a Huffman table that is not there": lambda scan: scan[:2] + b"\x33" + scan[3:],
    }


# ---- PNG ------------------------------------------------------------------------------------------------------------


def _pngs() -> dict[str, bytes]:
    few = cat().quantize(64)
    palette = [(b"PLTE", bytes(few.getpalette() or ())[:192])]
    return {
        "RGB": png(samples(cat()), RGB, filters=(0, 1)),
        "grey": png(samples(grey()), GREY),
        "palette": png(samples(few), PALETTE, before=palette),
        "alpha": png(samples(cut_out()), RGB_ALPHA),
        "interlaced": png(samples(cat()), RGB, interlaced=True),
        "16 bits": png(samples(grey()).astype(np.uint16) * 257, GREY, depth=16),
    }


def _with_data(file: bytes, data: bytes) -> bytes:
    """Return the file with this IDAT body in place of its pixels, with a right checksum."""
    return png_of((name, data if name == b"IDAT" else body) for name, body in chunks(file))


def _data(file: bytes) -> bytes:
    return b"".join(body for name, body in chunks(file) if name == b"IDAT")


def _cut_pngs() -> Iterator[OddFile]:
    for name, file in _pngs().items():
        at, data = file.index(b"IDAT") + 4, _data(file)
        for percent in _CUTS:
            cut = file[: at + len(data) * percent // 100]
            yield damaged("PNG, cut", f"{name}, after {percent} %", cut)
            shorter = _with_data(file, data[: len(data) * percent // 100])
            yield damaged("PNG, its zlib stream cut", f"{name}, after {percent} %", shorter)
        rows = zlib.decompress(data)
        row_bytes = len(rows) // cat().height if name != "interlaced" else 7
        for what, kept in {
            "half of the last one": len(rows) - row_bytes // 2,
            "the last one": len(rows) - row_bytes,
            "half of them": row_bytes * (cat().height // 2),
            "all": 0,
        }.items():
            yield damaged("PNG, rows missing", f"{name}, {what}", _with_data(file, zlib.compress(rows[:kept])))
        wrong = bytearray(file)
        wrong[at + len(data)] ^= 1
        yield damaged("PNG, wrong checksum of IDAT", name, bytes(wrong))


def _png_pixels() -> Iterator[OddFile]:
    for name, file in _pngs().items():
        data = _data(file)
        middle = len(data) // 2
        zeroed = data[:middle] + bytes(60) + data[middle + 60 :]
        yield damaged("PNG, pixels overwritten", f"{name}, 60 bytes, right checksum", _with_data(file, zeroed))
        at = file.index(b"IDAT") + 4 + middle
        yield damaged("PNG, pixels overwritten", f"{name}, 60 bytes", file[:at] + bytes(60) + file[at + 60 :])
        noise = np.random.default_rng(3).bytes(len(data))
        yield damaged("PNG, pixels overwritten", f"{name}, all noise", _with_data(file, noise))
        flipped = bytearray(file)
        flipped[at] ^= 4
        yield damaged("PNG, a bit flipped", name, bytes(flipped))


def _png_structure() -> Iterator[OddFile]:
    kind, file = "PNG, parts missing or wrong", _pngs()["RGB"]
    parts = chunks(file)
    rows = filtered(samples(cat()), 8)
    step = 1 + 3 * cat().width
    odd_filter = bytearray(rows)
    odd_filter[step * 20] = 9
    yield damaged(kind, "a filter of 9", _with_data(file, zlib.compress(bytes(odd_filter))))
    yield damaged(kind, "no IDAT", png_of(part for part in parts if part[0] != b"IDAT"))
    yield damaged(kind, "an empty IDAT", _with_data(file, b""))
    yield damaged(kind, "no IHDR", png_of(parts[1:]))
    yield damaged(kind, "only its signature", file[:8])
    yield damaged(kind, "only its header", file[:33])
    palette = _pngs()["palette"]
    yield damaged(kind, "no PLTE", png_of(part for part in chunks(palette) if part[0] != b"PLTE"))
    for name, head in _headers().items():
        yield damaged(kind, f"IHDR: {name}", png_of([head, *parts[1:]]))
    wrong = chunk(*parts[0], checksum=1)
    yield damaged(kind, "wrong checksum of IHDR", file[:8] + wrong + file[33:])
    end = zlib.compress(rows)
    spoilt = end[:-4] + bytes(4)
    yield refused_or(kind, "wrong checksum of the zlib stream", _with_data(file, spoilt), cat(), DAMAGED)
    yield answered("PNG without what is not needed", "no IEND", png_of(parts[:-1]), cat())
    yield answered("PNG without what is not needed", "half of IEND", file[:-6], cat())
    yield answered("PNG without what is not needed", "bytes behind IEND", file + bytes(100), cat())
    more = _with_data(file, zlib.compress(rows + bytes(1000)))
    yield refused_or("PNG without what is not needed", "more rows than it has", more, cat(), DAMAGED)


def _headers() -> dict[str, Chunk]:
    width, height = cat().size
    name, body = header(width, height, 8, RGB)
    return {
        "width of 0": header(0, height, 8, RGB),
        "height of 0": header(width, 0, 8, RGB),
        "twice the height": header(width, 2 * height, 8, RGB),
        "depth 3": header(width, height, 3, RGB),
        "RGB of 4 bits": header(width, height, 4, RGB),
        "colour type 5": header(width, height, 8, 5),
        "compression 1": (name, body[:10] + b"\1" + body[11:]),
        "filter method 1": (name, body[:11] + b"\1" + body[12:]),
        "interlacing 7": (name, body[:12] + b"\7"),
        "12 bytes": (name, body[:12]),
    }
