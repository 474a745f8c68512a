"""Valid JPEGs in every coding, sampling and size, and a few that only look invalid."""

import io
import itertools
import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageOps

from harness.photographs import encoded, jpeg, photograph
from tests.odd.odd_file import UNSUPPORTED, OddFile, answered, by_pillow, refused_or
from tests.odd.seeds import RESIZE_PX, cat, flower, grey
from tests.support.arithmetic_jpegs import ARITHMETIC
from tests.support.image_files import with_orientation
from tests.support.jpeg_segments import DHT, END, SOF1, joined, segment, segments, with_segments
from tests.support.jpeg_writer import COLOUR_SAMPLINGS, Coded, coded, lossless, progressive, sequential
from tests.support.png_writer import chunk, with_chunks

SAMPLINGS = {
    **COLOUR_SAMPLINGS,
    "1x4": ((1, 4), (1, 1), (1, 1)),
    "2x2 with 2x1 and 1x2": ((2, 2), (2, 1), (1, 2)),
    "more chroma than luma": ((1, 1), (2, 1), (2, 1)),
    "grey": ((1, 1),),
    "grey 2x2": ((2, 2),),
    "CMYK": ((1, 1),) * 4,
    "CMYK 4:2:0": ((2, 2), (1, 1), (1, 1), (2, 2)),
}

SIZES = ((1, 1), (1, 9), (9, 1), (7, 7), (8, 8), (17, 15), (16, 64), (200, 3))

_BY_COEFFICIENT = [(n, n) for n in range(1, 64)]
_LARGE_CODINGS: dict[str, dict[str, Any]] = {"": {}, ", progressive": {"progressive": True, "subsampling": 0}}

_PAD_BYTES = 65_350
"""Bytes before the scan, so that a read of 64 KiB, as Pillow's, ends within the scan."""


def jpegs() -> Iterator[OddFile]:
    """Yield files that must be answered."""
    for name, factors in SAMPLINGS.items():
        yield from _codings(name, coded(cat(), factors))
    for width, height in SIZES:
        yield from _codings(f"{width} x {height}", coded(cat().resize((width, height))), "JPEG of any size", few=True)
    yield from _of_pillow()
    yield from _arithmetic()
    yield from _lossless()
    yield from _oriented()
    yield from _oriented_by_xmp()
    yield from _coloured()
    yield from _without_what_is_not_needed()
    yield from _large()


def _codings(name: str, picture: Coded, kind: str = "JPEG of any sampling", *, few: bool = False) -> Iterator[OddFile]:
    reference = by_pillow(sequential(picture))
    files = {
        "baseline": sequential(picture),
        "progressive": progressive(picture, [(1, 5), (6, 63)]),
        "SOF1 with restarts": sequential(picture, marker=SOF1, restart=2),
    }
    for coding, file in list(files.items())[: 2 if few else None]:
        yield answered(kind, f"{name}, {coding}", file, reference)


def _of_pillow() -> Iterator[OddFile]:
    for quality in (1, 30, 100):
        for options in ({"optimize": True}, {"progressive": True}, {"keep_rgb": True}, {"restart_marker_blocks": 1}):
            file = jpeg(cat(), quality=quality, **options)
            yield answered("JPEG of Pillow's", f"quality {quality}, {next(iter(options))}", file, by_pillow(file))
    file = encoded(cat(), "MPO", save_all=True, append_images=[flower()], quality=90)
    yield answered("JPEG of Pillow's", "MPO", file, by_pillow(jpeg(cat())))
    file = progressive(coded(cat()), _BY_COEFFICIENT)
    yield answered("JPEG of many scans", "191 scans", file, by_pillow(sequential(coded(cat()))))


def _arithmetic() -> Iterator[OddFile]:
    """Yield arithmetic-coded files, also with so much metadata that a reader of 64 KiB stops within the scan."""
    for name, file in ARITHMETIC.items():
        padded = file[:2] + segment(0xEF, bytes(_PAD_BYTES)) + file[2:]
        for size, each in (("", file), (", behind 64 kB", padded)):
            yield refused_or("JPEG, arithmetic", name + size, each, by_pillow(file), UNSUPPORTED)


def _lossless() -> Iterator[OddFile]:
    """Yield lossless JPEGs. No decoder can reduce them while reading; the large ones are twice the resize."""
    kind = "JPEG, lossless"
    for image in (cat(), grey()):
        yield refused_or(kind, image.mode, lossless(image), image.convert("RGB"), UNSUPPORTED)
    for mode, width, height in (("RGB", 512, 512), ("RGB", 600, 513), ("L", 2048, 2100)):
        flat = Image.new(mode, (8, 8), (128, 128, 128) if mode == "RGB" else 128)
        small = lossless(flat)
        at, start = small.index(b"\xff\xc3") + 5, small.index(b"\xff\xda") + 2
        start += int(struct.unpack_from(">H", small, start)[0])
        pixels = bytes(width * height * len(flat.getbands()) * 5 // 8 + 1)  # five zero bits: as the left one
        file = small[:at] + struct.pack(">HH", height, width) + small[at + 4 : start] + pixels + END
        picture = flat.resize((width, height)).convert("RGB")
        yield refused_or(kind, f"{mode} {width} x {height}", file, picture, UNSUPPORTED)


def _oriented() -> Iterator[OddFile]:
    temple = photograph("temple").resize((150, 100))
    for file_format, orientation in itertools.product(("JPEG", "PNG", "WEBP"), range(1, 9)):
        file = with_orientation(temple, orientation, file_format)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
        yield answered("orientation by Exif", f"{file_format} {orientation}", file, upright)


def _oriented_by_xmp() -> Iterator[OddFile]:
    """Yield files whose XMP gives the orientation, which Pillow uses if Exif has none."""
    temple = photograph("temple").resize((150, 100))
    forms = ('tiff:Orientation="{}"', "<tiff:Orientation>{}</tiff:Orientation>")
    for (n, form), orientation in itertools.product(enumerate(forms), (1, 3, 6, 8)):
        xmp = f"<x:xmpmeta><rdf:Description {form.format(orientation)}/></x:xmpmeta>".encode()
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
        files = {
            "JPEG": with_segments(jpeg(temple), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
            "PNG": with_chunks(encoded(temple, "PNG"), chunk(b"iTXt", text)),
            "WEBP": encoded(temple, "WEBP", lossless=True, xmp=xmp),
        }
        for file_format, file in files.items():
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
            name = f"{file_format} {orientation}, form {n}"
            yield answered("orientation by XMP", name, file, upright, tolerance=0.05)


def _coloured() -> Iterator[OddFile]:
    """Yield files whose colours are told by Adobe's marker and the components' names."""
    kind = "JPEG of any colours"
    for count, transforms in ((1, (0,)), (3, (0, 1)), (4, (0, 2))):
        for transform in transforms:
            adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
            file = with_segments(sequential(coded(cat(), ((1, 1),) * count)), adobe)
            yield answered(kind, f"{count} components, Adobe's transform {transform}", file, by_pillow(file))
    file = sequential(coded(cat()))
    at = file.index(b"\xff\xc0") + 10
    scan = file.index(b"\xff\xda") + 5
    named = bytearray(file)
    for n, letter in enumerate(b"RGB"):
        named[at + 3 * n] = named[scan + 2 * n] = letter
    yield answered(kind, "components R, G and B", bytes(named), by_pillow(bytes(named)))


def _without_what_is_not_needed() -> Iterator[OddFile]:
    kind, file = "JPEG without what is not needed", jpeg(cat())
    reference = by_pillow(file)
    bare = [(marker, body) for marker, body in segments(file) if not 0xE0 <= marker <= 0xEF]
    yield answered(kind, "no APP0", joined(bare), reference)
    yield answered(kind, "no end marker", file[:-2], reference)
    yield answered(kind, "half an end marker", file[:-1], reference)
    yield answered(kind, "progressive, no end marker", jpeg(cat(), progressive=True)[:-2], reference)
    yield answered(kind, "grey, no end marker", jpeg(grey())[:-2], by_pillow(jpeg(grey())))
    motion = joined((marker, body) for marker, body in segments(file) if marker != DHT)
    yield answered(kind, "no Huffman tables, as frames of a Motion JPEG", motion, reference)
    yield answered(kind, "fill bytes before markers", file[:2] + b"\xff" * 7 + file[2:], reference)
    exif = Image.Exif()
    exif[0x0112] = 1
    comment = jpeg(cat(), exif=exif, comment=b"", dpi=(0, 0))
    yield answered(kind, "an empty comment", comment, reference)
    spaced = b"".join(b"\xff\xff" + segment(marker, body)[1:] for marker, body in bare[:-1])
    yield answered(kind, "a fill byte before each marker", file[:2] + spaced + joined(bare[-1:])[2:], reference)
    tables = [body for marker, body in bare if marker == DHT]
    one = joined([*(part for part in bare[:-1] if part[0] != DHT), (DHT, b"".join(tables)), bare[-1]])
    yield answered(kind, "all Huffman tables in one segment", one, reference)


def _large() -> Iterator[OddFile]:
    """Yield files just above the sizes where reduced decoding begins."""
    sizes = ((2 * RESIZE_PX, 2 * RESIZE_PX + 4), (6 * RESIZE_PX, 3 * RESIZE_PX), (1030, 4 * RESIZE_PX))
    for name, (width, height) in itertools.product(("flower", "rocket"), sizes):
        for coding, options in _LARGE_CODINGS.items():
            file = jpeg(photograph(name).resize((width, height)), **options)
            yield answered("JPEG of twice the resize", f"{name} {width} x {height}{coding}", file, by_pillow(file))
    for declared in ((0, 0, 0), (1, 300, 300)):
        file = jpeg(cat())
        at = file.index(b"JFIF\0") + 7
        density = file[:at] + struct.pack(">BHH", *declared) + file[at + 5 :]
        yield answered("JPEG of Pillow's", f"density {declared}", density, by_pillow(file))
