"""Mutations of a file: of its bytes, and of its format's structure, so that they reach the decoder."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from tests.fuzz.seed_files import JPEG, PNG, WEBP, Seed

_ODD_BYTES: Final = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 63, 64, 127, 128, 192, 254, 255)
_ODD_SIZES: Final = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 1000)
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_FRAMES: Final = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7)
_SOS: Final = 0xDA

Mutation = Callable[[random.Random, bytes, Seed], bytes]


def mutated(rng: random.Random, seeds: Sequence[Seed]) -> tuple[Seed, bytes]:
    """Return a seed after one to five mutations, a third of which know the format."""
    seed = rng.choice(seeds)
    data = seed.data
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        other = rng.choice([each for each in seeds if each.family == seed.family])
        own = _OF_A_FORMAT.get(seed.family)
        mutation = own if own and rng.random() < 0.6 else rng.choice(_OF_BYTES)
        try:
            data = mutation(rng, data, other) or data
        except (struct.error, IndexError, ValueError, zlib.error):  # earlier mutations have destroyed the structure
            data = rng.choice(_OF_BYTES)(rng, data, other) or data
    return seed, data


# ---- bytes ----------------------------------------------------------------------------------------------------------


def _place(rng: random.Random, data: bytes) -> int:
    """Draw a position: half of the time near the start, where headers are, otherwise anywhere."""
    return rng.randrange(min(len(data), rng.choice((64, 700, len(data), len(data)))))


def _flip_bits(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_bytes(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    changed, at = bytearray(data), _place(rng, data)
    for n in range(rng.choice((1, 1, 2, 4))):
        changed[min(at + n, len(data) - 1)] = rng.choice(_ODD_BYTES)
    return bytes(changed)


def _set_number(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    form = rng.choice((">H", "<H", ">I", "<I"))
    at = rng.randrange(max(1, min(len(data) - 4, rng.choice((64, 400, len(data))))))
    number = rng.choice((*_ODD_SIZES, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)) & (0xFFFF if form[1] == "H" else ~0)
    changed = struct.pack(form, number & 0xFFFFFFFF)
    return data[:at] + changed + data[at + len(changed) :]


def _cut(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


def _remove(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 8, 64, 500)) :]


def _repeat(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 4, 32, 300))
    return data[: at + length] + data[at : at + length] * rng.choice((1, 1, 3, 20)) + data[at + length :]


def _overwrite(rng: random.Random, data: bytes, _other: Seed) -> bytes:
    at, length = _place(rng, data), rng.choice((2, 16, 200))
    noise = rng.randbytes(length) if rng.random() < 0.5 else bytes([rng.choice((0, 255))]) * length
    return data[:at] + noise[: len(data) - at] + data[at + length :]


def _splice(rng: random.Random, data: bytes, other: Seed) -> bytes:
    return data[: _place(rng, data)] + other.data[_place(rng, other.data) :]


_OF_BYTES: Final[tuple[Mutation, ...]] = (
    _flip_bits,
    _flip_bits,
    _set_bytes,
    _set_bytes,
    _set_number,
    _cut,
    _remove,
    _repeat,
    _overwrite,
    _splice,
)

# ---- JPEG -----------------------------------------------------------------------------------------------------------


def _jpeg_parts(data: bytes) -> list[bytes]:
    """Return the segments with their markers; entropy-coded data belongs to its scan's segment."""
    parts, at = [], 0
    while at + 1 < len(data):
        marker = data[at + 1]
        bare = marker in (0xD8, 0xD9, 0x01) or 0xD0 <= marker <= 0xD7
        end = at + 2 + (0 if bare else struct.unpack_from(">H", data, at + 2)[0])
        while marker == _SOS and not (data[end] == 0xFF and data[end + 1] and not 0xD0 <= data[end + 1] <= 0xD7):
            end += 1
            if end + 1 >= len(data):
                break
        parts.append(data[at:end])
        at = max(end, at + 2)
    return parts


def _mutate_jpeg(rng: random.Random, data: bytes, other: Seed) -> bytes:
    parts = _jpeg_parts(data)
    frames = [n for n, part in enumerate(parts) if part[1] in _FRAMES]
    scans = [n for n, part in enumerate(parts) if part[1] == _SOS]
    match rng.randrange(9):
        case 0 if frames:
            n = rng.choice(frames)
            parts[n] = _mutate_frame(rng, parts[n])
        case 1 if scans:
            n = rng.choice(scans)
            parts[n] = _mutate_scan_header(rng, parts[n])
        case 2:
            n = rng.randrange(1, len(parts))
            parts[n] = _mutate_segment(rng, parts[n])
        case 3:
            del parts[rng.randrange(1, len(parts))]
        case 4:
            n = rng.randrange(1, len(parts))
            parts[n:n] = [parts[n]] * rng.choice((1, 2, 10))
        case 5:
            parts[rng.randrange(1, len(parts))] = rng.choice(_jpeg_parts(other.data))
        case 6:
            parts.insert(rng.randrange(1, len(parts)), rng.choice(_jpeg_parts(other.data)))
        case 7:
            one, two = rng.randrange(1, len(parts)), rng.randrange(1, len(parts))
            parts[one], parts[two] = parts[two], parts[one]
        case _:
            interval = struct.pack(">H", rng.choice(_ODD_SIZES))
            added = (b"\xff\xdd\0\4" + interval, b"\xff\xdc\0\4" + interval, b"\xff\xd8", b"\xff\xd9", b"\xff\xd3")
            parts.insert(rng.randrange(1, len(parts)), rng.choice(added))
    return b"".join(parts)


def _mutate_frame(rng: random.Random, part: bytes) -> bytes:
    frame = bytearray(part)
    match rng.randrange(6):
        case 0:
            frame[1] = rng.choice(_FRAMES)
        case 1:
            frame[4] = rng.choice((1, 2, 8, 9, 12, 16, 255))
        case 2:
            struct.pack_into(">H", frame, rng.choice((5, 7)), rng.choice(_ODD_SIZES))
        case 3:
            count = rng.randrange(0, 6)
            parts = (bytes(frame[10:]) * 6)[: 3 * count]
            return bytes(frame[:2]) + struct.pack(">H", 8 + 3 * count) + bytes(frame[4:9]) + bytes([count]) + parts
        case 4:
            component = rng.randrange(frame[9])
            frame[11 + 3 * component] = rng.randrange(0, 6) << 4 | rng.randrange(0, 6)
        case _:
            component = rng.randrange(frame[9])
            frame[10 + 3 * component + rng.choice((0, 2))] = rng.choice((0, 1, 2, 3, 82, 255))
    return bytes(frame)


def _mutate_scan_header(rng: random.Random, part: bytes) -> bytes:
    scan = bytearray(part)
    (length,) = struct.unpack_from(">H", scan, 2)
    at = rng.choice((length - 1, length, length + 1, rng.randrange(4, length + 2)))  # the last three: Ss, Se, Ah and Al
    scan[at] = rng.choice((0, 1, 2, 5, 6, 7, 13, 16, 17, 33, 62, 63, 64, 255))
    return bytes(scan)


def _mutate_segment(rng: random.Random, part: bytes) -> bytes:
    changed = bytearray(part)
    for _ in range(rng.choice((1, 1, 3))):
        changed[rng.randrange(2 if rng.random() < 0.1 else min(4, len(changed) - 1), len(changed))] = rng.choice(
            (*_ODD_BYTES, rng.randrange(256))
        )
    return bytes(changed)


# ---- PNG ------------------------------------------------------------------------------------------------------------


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _mutate_png(rng: random.Random, data: bytes, other: Seed) -> bytes:
    chunks = _png_chunks(data)
    n = rng.randrange(len(chunks))
    kind, body = chunks[n]
    match rng.randrange(8):
        case 0:
            chunks[0] = (b"IHDR", _mutate_ihdr(rng, chunks[0][1]))
        case 1 | 2:
            chunks = _with_pixels(rng, chunks)
        case 3:
            del chunks[n]
        case 4:
            chunks[n:n] = [chunks[n]] * rng.choice((1, 3, 20))
        case 5:
            chunks.insert(n, rng.choice(_png_chunks(other.data)))
        case 6:
            chunks[n] = (kind, body[: rng.randrange(len(body) + 1)])
        case _:
            changed = bytearray(body)
            changed[rng.randrange(len(body))] = rng.choice(_ODD_BYTES)
            chunks[n] = (kind, bytes(changed))
    return _PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _mutate_ihdr(rng: random.Random, body: bytes) -> bytes:
    header = bytearray(body)
    if rng.random() < 0.4:
        struct.pack_into(">I", header, rng.choice((0, 4)), rng.choice((*_ODD_SIZES, 0x7FFFFFFF, 0xFFFFFFFF)))
    else:
        header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 32))
    return bytes(header)


def _with_pixels(rng: random.Random, chunks: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return a PNG with other filtered rows, compressed again, in one IDAT or several."""
    rows = bytearray(zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT")))
    for _ in range(rng.choice((1, 3, 30))):
        rows[rng.randrange(len(rows))] = rng.choice((0, 1, 2, 3, 4, 5, 255))
    data = zlib.compress(bytes(rows[: rng.choice((len(rows), len(rows), rng.randrange(len(rows))))]), 1)
    cut = rng.randrange(len(data))
    at = next(n for n, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    others = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    pieces = [data] if rng.random() < 0.5 else [data[:cut], b"", data[cut:]]
    return [*others[:at], *((b"IDAT", piece) for piece in pieces), *others[at:]]


# ---- WebP -----------------------------------------------------------------------------------------------------------


def _webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks


def _mutate_webp(rng: random.Random, data: bytes, other: Seed) -> bytes:
    chunks = _webp_chunks(data)
    n = rng.randrange(len(chunks))
    kind, body = chunks[n]
    match rng.randrange(6):
        case 0 | 1:
            changed = bytearray(body)
            for _ in range(rng.choice((1, 2, 8))):
                changed[rng.randrange(min(len(body), rng.choice((12, 40, len(body)))))] = rng.randrange(256)
            chunks[n] = (kind, bytes(changed))
        case 2:
            del chunks[n]
        case 3:
            chunks[n:n] = [chunks[n]] * rng.choice((1, 3, 20))
        case 4:
            chunks.insert(n, rng.choice(_webp_chunks(other.data)))
        case _:
            chunks[n] = (kind, body[: rng.randrange(len(body) + 1)])
    file = b"".join(kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in chunks)
    return b"RIFF" + struct.pack("<I", len(file) + 4) + b"WEBP" + file


_OF_A_FORMAT: Final[dict[str, Mutation]] = {JPEG: _mutate_jpeg, PNG: _mutate_png, WEBP: _mutate_webp}
