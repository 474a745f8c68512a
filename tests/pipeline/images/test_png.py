"""Tests of damaged PNGs: only the parts that the pixels need can cost the image."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from harness.photographs import photograph, png_file
from pipeline.errors import UndecodableImage
from pipeline.images.decode import decode
from pipeline.images.header import read_header
from pipeline.images.png import pixels_of_png, rows_of_png
from tests.support.decode_bench import EXACT
from tests.support.image_files import ODD_BUT_GOOD, chunk, interlaced_png, png, png_16_bit

CAT = Image.fromarray(np.asarray(photograph("cat").resize((90, 60))))  # without the metadata of its file
PLAIN = png(CAT)
HEADER, REST = PLAIN[:33], PLAIN[33:]


def pixels(file: bytes) -> np.ndarray:
    return decode(memoryview(file), EXACT, 1_000_000)


def bomb(size: int) -> bytes:
    return zlib.compress(bytes(size))


NEEDLESS = {
    "text of 2 MB": chunk(b"zTXt", b"workflow\0\0" + bomb(2 << 20)),
    "profile of 2 MB": chunk(b"iCCP", b"p\0\0" + bomb(2 << 20)),
    "text with a wrong checksum": chunk(b"tEXt", b"Comment\0hello")[:-1] + b"\0",
    "Exif with a wrong checksum": chunk(b"eXIf", b"II*\0")[:-1] + b"\0",
    "text in Latin without an end": chunk(b"iTXt", b"XML:com.adobe.xmp"),
    "old Exif that is no hexadecimal": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n9\nzz")),
    "old Exif that is not compressed": chunk(b"zTXt", b"Raw profile type exif\0\0garbage"),
    "animation off the canvas": chunk(b"acTL", struct.pack(">II", 1, 0))
    + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9999, 9999, 5, 5, 1, 1, 0, 0)),
    "transparency of a wrong length": chunk(b"tRNS", b"\0\1\2"),
    "a suggested palette of a wrong length": chunk(b"PLTE", b"\0\1\2\3"),
    "a chunk that nobody knows": chunk(b"QQQQ", b"?"),
    **{f"an empty {name}": chunk(name.encode()) for name in ("gAMA", "pHYs", "sRGB", "acTL", "tRNS", "cHRM", "bKGD")},
}


@pytest.mark.parametrize("name", NEEDLESS)
@pytest.mark.parametrize("place", ["before the pixels", "among the pixels", "after the pixels"])
def test_what_no_pixel_needs_costs_no_image(name: str, place: str) -> None:
    odd, data = NEEDLESS[name], REST[8 : 8 + struct.unpack_from(">I", REST)[0]]
    one, other = chunk(b"IDAT", data[:500]), chunk(b"IDAT", data[500:])
    parts = {"before the pixels": (odd, one), "among the pixels": (one, odd), "after the pixels": (one, other, odd)}[
        place
    ]
    file = HEADER + b"".join(parts) + (b"" if place.startswith("after") else other) + chunk(b"IEND")
    np.testing.assert_array_equal(pixels(file), pixels(PLAIN))


def test_a_file_of_nothing_else_is_not_copied() -> None:
    file, _ = pixels_of_png(memoryview(PLAIN), read_header((PLAIN,), ("PNG",)))
    assert isinstance(file, memoryview)


@pytest.mark.parametrize("end", [b"", b"\0\0\0\0IEND", b"garbage"])
def test_a_missing_end_after_the_last_row_is_no_damage(end: bytes) -> None:
    np.testing.assert_array_equal(pixels(PLAIN[:-12] + end), pixels(PLAIN))


KINDS = {
    "rgb": PLAIN,
    "palette": png(CAT.quantize(16)),
    "1 bit": png(CAT.convert("1")),
    "16 bits": png_16_bit(CAT),
    "grey 16 bits": png_16_bit(CAT.convert("L")),
    "alpha": png(CAT.convert("RGBA")),
    "grey and alpha": png(CAT.convert("LA")),
    "interlaced": interlaced_png(CAT),
}


def rows(file: bytes) -> str:
    with pytest.raises(UndecodableImage) as raised:
        pixels(file)
    return str(raised.value)


def inflated(file: bytes) -> bytes:
    return zlib.decompress(b"".join(file[at + 4 : at + 4 + size] for at, size in _idats(file)))


def _idats(file: bytes) -> list[tuple[int, int]]:
    found, at = [], 33
    while at < len(file):
        size, name = struct.unpack_from(">I4s", file, at)
        found += [(at + 4, size)] if name == b"IDAT" else []
        at += 12 + size
    return found


def with_pixels(file: bytes, compressed: bytes) -> bytes:
    before = file[: file.index(b"IDAT") - 4]
    return before + chunk(b"IDAT", compressed) + chunk(b"IEND")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_missing_rows_are_damage_and_counted(name: str, kept: float) -> None:
    """Missing rows are damage and counted. Pillow gives no warning where the compressed pixels end properly."""
    file = KINDS[name]
    data = inflated(file)
    short = with_pixels(file, zlib.compress(data[: int(kept * len(data))]))
    count = rows_of_png(memoryview(short), read_header((short,), ("PNG",)))
    assert abs(count - int(kept * 60)) <= 1 if name != "interlaced" else count == {0.0: 0, 0.3: 0, 0.99: 59}[kept]
    assert rows(short) == f"the image is damaged: {count} of 60 rows could be read"
    cut = file[: file.index(b"IDAT") + 4 + int(kept * (len(file) - file.index(b"IDAT")))]
    assert "of 60 rows could be read" in rows(cut[:-20] if kept else cut)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (9, 1), (1, 9), (5, 2), (33, 33)], ids=str)
def test_small_interlaced_ones_miss_nothing(size: tuple[int, int]) -> None:
    image = CAT.resize(size)
    np.testing.assert_array_equal(pixels(interlaced_png(image)), pixels(png(image)))
    data = inflated(interlaced_png(image))
    assert "rows could be read" in rows(with_pixels(interlaced_png(image), zlib.compress(data[:-1])))


@pytest.mark.parametrize("value", [165, 23, 0, 255])
def test_a_picture_of_the_value_that_marks_what_is_missing_is_whole(value: int) -> None:
    for mode in ("L", "RGB", "1", "P"):
        image = Image.new("RGB", (40, 30), (value, 23, 201)).convert(mode)
        assert pixels(png(image)).shape == (224, 224, 3)
    assert pixels(png(Image.new("RGB", (40, 30), (165, 23, 201)))).shape == (224, 224, 3)


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_checksum_of_pixels_is_damage(name: str) -> None:
    at = KINDS[name].rindex(b"IDAT") + 200
    file = bytearray(KINDS[name])
    file[at] ^= 1
    assert "the checksum of those that follow is wrong" in rows(bytes(file))


def test_rows_before_a_wrong_checksum_are_counted() -> None:
    data = zlib.compress(inflated(PLAIN))
    parts = [chunk(b"IDAT", data[at : at + 1000]) for at in range(0, len(data), 1000)]
    parts[5] = parts[5][:-1] + bytes((parts[5][-1] ^ 1,))
    message = rows(HEADER + b"".join(parts) + chunk(b"IEND"))
    assert 0 < int(message.split(":")[1].split()[0]) < 60


@pytest.mark.parametrize(("part", "name"), [(b"IHDR", "header"), (b"PLTE", "palette")])
def test_a_wrong_checksum_of_what_pixels_need_is_told(part: bytes, name: str) -> None:
    file = bytearray(KINDS["palette"])
    at = file.index(part) + 4 + struct.unpack_from(">I", file, file.index(part) - 4)[0]
    file[at] ^= 1
    assert f"the checksum of the PNG's {name}" in rows(bytes(file))


def test_a_palette_that_is_missing_is_told() -> None:
    file = KINDS["palette"]
    at = file.index(b"PLTE") - 4
    assert "no palette (PLTE)" in rows(file[:at] + file[file.index(b"IDAT") - 4 :])


@pytest.mark.parametrize("name", [name for name in ODD_BUT_GOOD if name.startswith("png")])
def test_what_is_left_shows_the_same_pixels(name: str) -> None:
    file = ODD_BUT_GOOD[name]
    left, _ = pixels_of_png(memoryview(file), read_header((file,), ("PNG",)))
    one, other = (np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")) for data in (file, left))
    np.testing.assert_array_equal(one, other)


def test_orientation_in_xmp_and_in_old_exif_is_found() -> None:
    """The orientation is found in XMP and in old forms of Exif, as Pillow finds it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    text = b"\nexif\n%8d\n" % len(exif.tobytes()) + exif.tobytes().hex().encode()
    xmp = b"<x tiff:Orientation='6' tiff:Orientation=\"6\"/>"
    turned = pixels(png(CAT, exif=exif))
    assert not np.array_equal(turned, pixels(PLAIN))
    for odd in (
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
        chunk(b"tEXt", b"Raw profile type exif\0" + text),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
    ):
        np.testing.assert_array_equal(pixels(HEADER + odd + REST), turned)


def test_an_image_of_zeros_counts_no_more_than_it_has() -> None:
    """Counting rows stops at the image's height: 50 kB of compressed zeros would inflate to 50 MB."""
    file = png_file((10, 10), [bytes(50 << 20)])
    header = read_header((file,), ("PNG",))
    assert rows_of_png(memoryview(file), header) == 10
