"""Valid pixels behind odd metadata, which no decoder needs, so the picture must be answered."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from harness.photographs import encoded, jpeg
from tests.odd import webps
from tests.odd.odd_file import DAMAGED, OddFile, answered, by_pillow, refused_or
from tests.odd.seeds import cat, samples
from tests.support.jpeg_segments import segment, with_segments
from tests.support.png_writer import RGB, chunk, chunks, joined, png, with_chunks

_NOISE = np.random.default_rng(22).bytes(64)


def metadata() -> Iterator[OddFile]:
    """Yield files that must be answered, except those with an unknown critical chunk."""
    file = png(samples(cat()), RGB)
    for name, odd in _png_chunks().items():
        yield answered("PNG with odd metadata", name, with_chunks(file, odd), cat())
    yield from _png_checksums(file)
    critical = with_chunks(file, chunk(b"ODDZ", b"a critical chunk"))
    yield refused_or("PNG with a critical chunk nobody knows", "ODDZ", critical, cat(), 415, DAMAGED)
    yield from _png_exif()
    yield from _jpeg_segments()
    yield from _webp_chunks()


def _png_checksums(file: bytes) -> Iterator[OddFile]:
    kind = "PNG, wrong checksum of a part nobody needs"
    body = b"Comment\0\0hello, this is long enough for any of them"
    for name in ("tEXt", "zTXt", "iTXt", "iCCP", "gAMA", "pHYs", "sRGB", "tIME", "bKGD", "sBIT", "odDz"):
        wrong = chunk(name.encode(), body, checksum=zlib.crc32(name.encode() + body) ^ 1)
        yield answered(kind, name, with_chunks(file, wrong), cat())
        yield answered(kind, f"{name}, behind the pixels", file[:-12] + wrong + file[-12:], cat())
    yield answered(kind, "IEND", file[:-4] + bytes(4), cat())


def _deflated(size: int) -> bytes:
    return zlib.compress(_NOISE * (size // 64))


def _png_chunks() -> dict[str, bytes]:
    names = b"tEXt zTXt iTXt iCCP gAMA cHRM pHYs sRGB sBIT bKGD hIST sPLT tIME acTL fcTL fdAT cICP mDCV cLLI".split()
    empty = {f"empty {name.decode()}": chunk(name) for name in names}
    noise = {f"{name.decode()} of noise": chunk(name, _NOISE) for name in names}
    return empty | noise | {
        "zTXt of 2 MB": chunk(b"zTXt", b"workflow\0\0" + _deflated(2_000_000)),
        "zTXt of 60 MB in 60 kB": chunk(b"zTXt", b"bomb\0\0" + _deflated_zeros(60_000_000)),
        "zTXt of another compression": chunk(b"zTXt", b"workflow\0\7" + _deflated(1000)),
        "zTXt cut": chunk(b"zTXt", b"workflow\0\0" + _deflated(100_000)[:50]),
        "iTXt of 2 MB": chunk(b"iTXt", b"prompt\0\1\0en\0\0" + _deflated(2_000_000)),
        "iTXt that is no UTF-8": chunk(b"iTXt", b"prompt\0\0\0en\0\0\xff\xfe\xfd"),
        "tEXt of 3 MB": chunk(b"tEXt", b"parameters\0" + _NOISE * 47_000),
        "tEXt without a keyword": chunk(b"tEXt", b"\0text"),
        "tEXt of a keyword of 200 bytes": chunk(b"tEXt", b"k" * 200 + b"\0text"),
        "1000 tEXt": chunk(b"tEXt", b"Comment\0hello") * 1000,
        "iCCP of 1.5 MB": chunk(b"iCCP", b"profile\0\0" + _deflated(1_500_000)),
        "iCCP of another compression": chunk(b"iCCP", b"profile\0\7" + _deflated(1000)),
        "iCCP twice": chunk(b"iCCP", b"profile\0\0" + _deflated(1000)) * 2,
        "gAMA of 0": chunk(b"gAMA", bytes(4)),
        "gAMA of 3 bytes": chunk(b"gAMA", bytes(3)),
        "pHYs of 0": chunk(b"pHYs", bytes(9)),
        "pHYs of 2 billion": chunk(b"pHYs", struct.pack(">IIB", 2**31, 2**31, 9)),
        "sRGB of 200": chunk(b"sRGB", b"\xc8"),
        "acTL of no frames": chunk(b"acTL", bytes(8)),
        "acTL of 2 billion frames": chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)),
        "fcTL off the canvas": chunk(b"acTL", struct.pack(">II", 1, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9999, 9999, 5, 5, 1, 1, 0, 0)),
        "fcTL of an odd sequence number": chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 7, 93, 61, 0, 0, 1, 1, 9, 9)),
        "tIME of month 99": chunk(b"tIME", struct.pack(">HBBBBB", 2026, 99, 99, 99, 99, 99)),
        "a suggested palette": chunk(b"PLTE", bytes(range(30))),
        "an unknown chunk": chunk(b"odDz", b"anything"),
        "an unknown chunk of 1 MB": chunk(b"odDz", bytes(1_000_000)),
        "a private chunk of a name in capitals but one": chunk(b"oDDZ", b"anything"),
    }  # fmt: skip


def _deflated_zeros(size: int) -> bytes:
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)), deflate.flush()])


def _png_exif() -> Iterator[OddFile]:
    kind, file = "PNG with odd Exif", png(samples(cat()), RGB)
    for name, body in _exif_bodies().items():
        yield answered(kind, name, with_chunks(file, chunk(b"eXIf", body)), cat())
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = png(samples(cat().transpose(Image.Transpose.ROTATE_180)), RGB)
    body = exif.tobytes()
    yield answered(kind, "orientation 3", with_chunks(turned, chunk(b"eXIf", body.removeprefix(b"Exif\0\0"))), cat())
    parts = chunks(turned)
    behind = joined([*parts[:-1], (b"eXIf", body.removeprefix(b"Exif\0\0")), parts[-1]])
    yield answered(kind, "orientation 3, behind the pixels", behind, cat())


def _exif_bodies() -> dict[str, bytes]:
    """Return invalid TIFF structures."""
    entry = struct.pack("<HHII", 0x0112, 3, 1, 99)
    return {
        "empty": b"",
        "4 bytes": b"II*\0",
        "directory at its own entry": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + b"\x08\0\0\0",
        "directory beyond the end": b"MM\0*\x7f\xff\xff\xff",
        "65535 entries": b"II*\0\x08\0\0\0\xff\xff" + entry * 3,
        "orientation 99": b"II*\0\x08\0\0\0\1\0" + entry + bytes(4),
        "orientation as text": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 0x0112, 2, 4, b"six\0") + bytes(4),
        "orientation of two numbers": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHIHH", 0x0112, 3, 2, 1, 1) + bytes(4),
        "orientation of 2 billion numbers": b"II*\0\x08\0\0\0\1\0"
        + struct.pack("<HHII", 0x0112, 3, 2**31, 8)
        + bytes(4),
        "rational of 0/0": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x011A, 5, 1, 26) + bytes(12),
        "noise": _NOISE,
        "BigTIFF": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + bytes(16),
    }


def _jpeg_segments() -> Iterator[OddFile]:
    kind, file = "JPEG with odd metadata", jpeg(cat())
    reference, bare = by_pillow(file), file[:2] + file[20:]
    for marker in (*range(0xE0, 0xF0), 0xFE):
        name = "COM" if marker == 0xFE else f"APP{marker - 0xE0}"
        for size, body in {"empty": b"", "of noise": _NOISE, "of 65 kB": bytes(65533)}.items():
            if size == "of 65 kB" and marker % 4:
                continue
            yield answered(kind, f"{name} {size}", with_segments(file, segment(marker, body)), reference)
    for name, body in _exif_bodies().items():
        exif = segment(0xE1, b"Exif\0\0" + body)
        yield answered("JPEG with odd Exif", name, with_segments(file, exif), reference)
    for name, odd in {
        "ICC_PROFILE without numbers": segment(0xE2, b"ICC_PROFILE\0"),
        "ICC_PROFILE 3 of 2": segment(0xE2, b"ICC_PROFILE\0\3\2" + _NOISE),
        "ICC_PROFILE 1 of 2 alone": segment(0xE2, b"ICC_PROFILE\0\1\2" + _NOISE),
        "ICC_PROFILE twice": segment(0xE2, b"ICC_PROFILE\0\1\1" + _NOISE) * 2,
        "ICC_PROFILE of 1 MB": b"".join(
            segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 20]) + bytes(60_000)) for n in range(1, 21)
        ),
        "Adobe of 5 bytes": segment(0xEE, b"Adobe"),
        "JFIF of 4 bytes": segment(0xE0, b"JFIF"),
        "JFIF twice": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") * 2,
        "JFIF of version 9": segment(0xE0, b"JFIF\0\x09\x09\0\0\1\0\1\0\0"),
        "JFIF with a thumbnail that is not there": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\xff\xff"),
        "JFXX": segment(0xE0, b"JFXX\0\x10"),
        "Photoshop's resources": segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\4odd!"),
        "Photoshop's resources cut": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff\1"),
        "Photoshop's density of 3 bytes": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\3abc\0"),
        "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
        "XMP that is no XML": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<<<&&&"),
        "XMP cut in its name": segment(0xE1, b"http://ns.adobe"),
        "MPF of nothing": segment(0xE2, b"MPF\0"),
        "MPF of noise": segment(0xE2, b"MPF\0" + _NOISE),
        "MPF of 65535 pictures": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0xB001, 4, 1, 65535)),
        "FPXR": segment(0xE2, b"FPXR\0\0\1" + _NOISE),
        "200 comments": segment(0xFE, b"a comment") * 200,
    }.items():
        yield answered(kind, name, with_segments(bare, odd), reference)


def _webp_chunks() -> Iterator[OddFile]:
    kind = "WebP with odd metadata"
    file = encoded(cat(), "WEBP", quality=90, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", xmp=b"<x/>", icc_profile=bytes(128))
    reference = by_pillow(encoded(cat(), "WEBP", quality=90))
    for name in ("EXIF", "XMP ", "ICCP"):
        for size, body in {"empty": b"", "of noise": _NOISE, "of 3 bytes": b"abc"}.items():
            parts = [(each, body if each == name.encode() else data) for each, data in webps.chunks(file)]
            yield answered(kind, f"{name.strip()} {size}", webps.joined(parts), reference)
    for name, body in _exif_bodies().items():
        parts = [(each, body if each == b"EXIF" else data) for each, data in webps.chunks(file)]
        yield answered(kind, f"Exif: {name}", webps.joined(parts), reference)
