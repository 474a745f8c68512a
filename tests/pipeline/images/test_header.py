"""Tests of reading the header of every format without a decoder; Pillow is the reference."""

import io
import struct
import time

import pytest
from PIL import Image

from harness.photographs import encoded, jpeg, photograph, png_file
from pipeline.errors import EmptyImage, ImageError, UndecodableImage, UnsupportedFormat
from pipeline.images.header import MAX_COUNTED_CHUNKS, Header, read_header
from tests.support.image_files import ODD_BUT_GOOD, chunk, png, webp

FORMATS = ("JPEG", "PNG", "WEBP")
ALL = (*FORMATS, "GIF", "BMP", "AVIF", "HEIF")
SIZES = [(1, 1), (2, 3), (500, 375), (333, 1000)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_every_format_tells_its_size(name: str, size: tuple[int, int]) -> None:
    file = encoded(photograph("cat").resize(size), name)
    header = read_header((file,), ALL)
    assert (header.format, header.width, header.height, header.bytes) == (name, *size, len(file))


@pytest.mark.parametrize("name", ODD_BUT_GOOD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_files_tell_what_pillow_tells(name: str) -> None:
    """The header of an odd file has Pillow's size and format, also where the file begins in small pieces."""
    file = ODD_BUT_GOOD[name]
    header, opened = read_header((file,), FORMATS), Image.open(io.BytesIO(file))
    assert (header.width, header.height) == opened.size
    assert header.format == {"MPO": "JPEG"}.get(opened.format or "", opened.format)
    view = memoryview(file)
    assert read_header([*(view[at : at + 7] for at in range(0, 7000, 7)), view[7000:]], FORMATS) == header


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        (jpeg(photograph("cat").convert("L")), ("JPEG", "baseline", 1, 8)),
        (jpeg(photograph("cat").convert("CMYK")), ("JPEG", "baseline", 4, 8)),
        (jpeg(photograph("cat"), progressive=True), ("JPEG", "progressive", 3, 8)),
        (ODD_BUT_GOOD["png interlaced"], ("PNG", "interlaced", 3, 8)),
        (ODD_BUT_GOOD["png grey 16 bit"], ("PNG", "plain", 1, 16)),
        (ODD_BUT_GOOD["png rgb with alpha"], ("PNG", "plain", 4, 8)),
        (ODD_BUT_GOOD["webp lossless"], ("WEBP", "lossless", 3, 8)),
        (ODD_BUT_GOOD["webp with alpha"], ("WEBP", "lossy", 3, 8)),  # the cat's alpha is opaque, and so left out
        (ODD_BUT_GOOD["webp animated"], ("WEBP", "lossy", 3, 8)),
        (webp(photograph("cat").convert("RGBA").rotate(9), lossless=True), ("WEBP", "lossless", 4, 8)),
        (webp(photograph("cat").convert("RGBA").rotate(9)), ("WEBP", "lossy", 4, 8)),
    ],
)
def test_coding_channels_and_bit_depth_are_told(file: bytes, fields: tuple[str, str, int, int]) -> None:
    header = read_header((file,), FORMATS)
    assert (header.format, header.coding, header.channels, header.bit_depth) == fields


def test_chunks_are_counted_to_a_bound() -> None:
    file = png(photograph("cat"))
    few, many = (file[:33] + chunk(b"tEXt", b"a\0b") * count + file[33:] for count in (7, 3 * MAX_COUNTED_CHUNKS))
    assert read_header((few,), FORMATS).chunks == read_header((file,), FORMATS).chunks + 7
    assert read_header((many,), FORMATS).chunks == MAX_COUNTED_CHUNKS


def test_a_gif_is_as_large_as_its_first_picture() -> None:
    file = bytearray(encoded(photograph("cat").resize((40, 30)), "GIF"))
    file[6:10] = struct.pack("<HH", 5, 5)
    header = read_header((bytes(file),), ALL)
    assert (header.width, header.height) == Image.open(io.BytesIO(file)).size == (40, 30)


@pytest.mark.parametrize("bits_of_height", [">i", "<i"])
def test_a_bmp_that_begins_at_its_top_has_a_negative_height(bits_of_height: str) -> None:
    file = bytearray(encoded(photograph("cat").resize((40, 30)), "BMP"))
    file[22:26] = struct.pack("<i", -30 if bits_of_height == "<i" else 30)
    assert read_header((bytes(file),), ALL).height == 30


def _damaged() -> dict[str, bytes]:
    size = (60, 40)
    small = {name: encoded(photograph("cat").resize(size), name) for name in FORMATS}
    cut = {f"{name} cut off after {at}": small[name][:at] for name in FORMATS for at in (4, 7, 12, 15, 20, 24)}
    animated = bytearray(ODD_BUT_GOOD["webp animated"])
    return {
        **cut,
        "PNG without pixels": png_file((0, 0), ()),
        "PNG of 2^31 pixels": png_file((1 << 31, 1), ()),
        "PNG of a depth that does not exist": png_file(size, (), depth=3),
        "PNG of a colour type that does not exist": png_file(size, (), colour=5),
        "PNG without its header": small["PNG"][:8] + small["PNG"][33:],
        "PNG sent as text": small["PNG"].replace(b"\r\n", b"\n"),
        "WebP of another chunk": small["WEBP"][:12] + b"ALPH" + small["WEBP"][16:],
        "WebP that is no key frame": small["WEBP"][:20] + b"\1" + small["WEBP"][21:],
        "WebP cut off in its canvas": bytes(animated[:25]),
        "JPEG of nothing else": b"\xff\xd8\xff",
    }


@pytest.mark.parametrize("name", _damaged())
def test_damage_of_a_header_is_told(name: str) -> None:
    with pytest.raises(UndecodableImage, match=r"^the image cannot be decoded: "):
        read_header((_damaged()[name],), FORMATS)


@pytest.mark.parametrize(
    ("file", "formats", "message"),
    [
        (b"GIF89a" + bytes(20), FORMATS, "unsupported image format (GIF); this service accepts JPEG, PNG and WebP"),
        (webp(photograph("cat")), ("JPEG",), "unsupported image format (WebP); this service accepts JPEG"),
        (b"a letter", ("PNG", "HEIF"), "unsupported image format (text); this service accepts PNG and HEIC"),
        (
            b"\n" + jpeg(photograph("cat")),
            ("JPEG", "PNG"),
            "unsupported image format (JPEG start marker found after 1 other bytes); this service accepts JPEG and PNG",
        ),
        (
            b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)) + png(photograph("cat"))[8:],
            ("PNG",),
            "unsupported image format (PNG in Apple's own coding, CgBI); this service accepts PNG",
        ),
    ],
)
def test_a_file_of_another_kind_is_named(file: bytes, formats: tuple[str, ...], message: str) -> None:
    with pytest.raises(UnsupportedFormat) as raised:
        read_header((file,), formats)
    assert str(raised.value) == message


def test_nothing_is_no_image() -> None:
    for pieces in ((), (b"",), (b"", memoryview(b""))):
        with pytest.raises(EmptyImage):
            read_header(pieces, FORMATS)


HOSTILE = {
    "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * (8 << 20),
    "jpeg of stray bytes": b"\xff\xd8" + b"\xff\0" * (4 << 20),
    "jpeg of empty segments": b"\xff\xd8" + b"\xff\xfe\0\2" * (2 << 20),
    "jpeg of segments far apart": b"\xff\xd8" + (b"\xff\xfe\0\2" + bytes(4000)) * 2000,
    "gif of small blocks": b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * (4 << 20),
    "png of empty chunks": png_file((9, 9), ())[:33] + chunk(b"tEXt") * 700_000,
    "webp of empty chunks": webp(photograph("cat"))[:12] + b"VP8X\x0a\0\0\0" + bytes(10) + b"XXXX\0\0\0\0" * (1 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_header_costs_much(name: str) -> None:
    """The worst 8 MB for a header reader are read in less than 0.1 s, as the replica's event loop does it."""
    start = time.process_time()
    try:
        found: Header | ImageError = read_header((HOSTILE[name],), ALL)
    except ImageError as error:
        found = error
    assert time.process_time() - start < 0.1, found
