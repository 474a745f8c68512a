"""Tests of the JPEG frame header: libjpeg reads the same one, and each coding is named."""

import itertools
import struct
from dataclasses import replace

import pytest
import simplejpeg

from harness.photographs import jpeg, photograph
from pipeline.images.jpeg_header import JpegFrame, read_frame
from pipeline.images.piecewise import Piecewise
from pipeline.images.signature import Damaged, NotDecoded
from tests.support.image_files import segment

SMALL = jpeg(photograph("cat").resize((60, 40)))
FRAME_AT = SMALL.index(b"\xff\xc0")
START, END = b"\xff\xd8", b"\xff\xd9"


def sof(marker: int, bit_depth: int = 8, height: int = 40, width: int = 60, channels: int = 3) -> bytes:
    components = b"".join(bytes((number, 0x11, 0)) for number in range(channels))
    return segment(marker, struct.pack(">BHHB", bit_depth, height, width, channels) + components)


def sos(channels: int = 3) -> bytes:
    return segment(0xDA, bytes((channels,)) + b"\1\0" * channels + b"\0\x3f\0")


def frame(file: bytes) -> JpegFrame:
    return read_frame(Piecewise([file]))


@pytest.mark.parametrize(
    ("marker", "coding"),
    [
        (0xC0, "baseline"),
        (0xC1, "extended"),
        (0xC2, "progressive"),
        (0xC3, "lossless"),
        (0xC9, "arithmetic"),
        (0xCA, "arithmetic progressive"),
    ],
)
def test_each_coding_is_told_by_its_marker(marker: int, coding: str) -> None:
    read = frame(START + sof(marker) + sos() + END)
    assert (read.coding, read.width, read.height, read.channels, read.bit_depth) == (coding, 60, 40, 3, 8)
    assert read.scans.count == read.segments == 1


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (sof(0xC1, 12), "12-bit JPEG; only 8 bits are decoded"),
        (sof(0xC3, 16), "16-bit lossless JPEG; only 8 bits are decoded"),
        (sof(0xC0, height=0), "JPEG whose height follows its pixels (DNL)"),
        (sof(0xC0, channels=2), "JPEG of 2 components; only 1, 3 and 4 are decoded"),
        (sof(0xC0, channels=5), "JPEG of 5 components; only 1, 3 and 4 are decoded"),
        *((sof(marker), "hierarchical JPEG") for marker in (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE)),
        (sof(0xCB), "lossless JPEG in arithmetic coding"),
        (sof(0xF7), "JPEG-LS"),
    ],
)
def test_a_kind_that_is_not_decoded_is_named(header: bytes, name: str) -> None:
    with pytest.raises(NotDecoded) as raised:
        frame(START + segment(0xE0, b"JFIF\0") + header + sos() + END)
    assert str(raised.value) == name


def test_thumbnails_and_segments_before_the_frame_are_stepped_over() -> None:
    """Thumbnails and other segments before the frame header are skipped, whatever they contain."""
    thumbnail = jpeg(photograph("cat").resize((16, 12)))
    others = segment(0xE1, b"Exif\0\0" + thumbnail) + segment(0xFE, sof(0xC2)) + b"\xff\x01\xff\xd0\xff\xff\xff\xff"
    assert frame(START + others + SMALL[2:]) == replace(frame(SMALL), segments=12)


def test_stray_bytes_between_segments_are_stepped_over_as_libjpeg_does() -> None:
    stray = b"\0\1\xff\0\2\xff\xff\0" + sof(0xC0, width=9)[1:]  # without its FF the latter is not a segment
    file = SMALL[:2] + stray + SMALL[2:]
    assert frame(file).width == 60 == simplejpeg.decode_jpeg_header(file, strict=False)[1]


def _damaged() -> dict[str, tuple[bytes, str]]:
    return {
        "no frame": (START + END, "ends before its pixels"),
        "pixels first": (START + sos(), "pixels come before"),
        "two frames": (START + sof(0xC0) + sof(0xC0) + sos(), "two frame headers"),
        "two starts": (START + START + sof(0xC0) + sos(), "second start marker"),
        "no width": (START + sof(0xC0, width=0) + sos(), "frame header"),
        "frame of a wrong length": (START + sof(0xC0)[:-1].replace(b"\0\x11", b"\0\x12", 1) + sos(), "frame header"),
        "a segment of one byte": (START + b"\xff\xe0\0\1" + sof(0xC0) + sos(), "segment of 1 byte"),
        "a marker of no kind": (START + segment(0x02) + sof(0xC0) + sos(), "marker 02"),
        "nothing but other bytes": (START + bytes(70_000), "damaged"),
        "nothing but fill bytes": (START + b"\xff" * 70_000, "damaged"),
        "segments without end": (START + segment(0xFE) * 9000 + sof(0xC0) + sos(), "more than 2000 segments"),
    }


@pytest.mark.parametrize("name", _damaged())
def test_a_damaged_header_is_told(name: str) -> None:
    """A header that libjpeg cannot read is refused; some others may be refused too."""
    file, why = _damaged()[name]
    with pytest.raises(Damaged, match=why):
        frame(file)


def test_a_header_is_told_to_be_cut_off_wherever_it_is() -> None:
    for length in range(2, SMALL.index(b"\xff\xda") + 2):
        with pytest.raises(Damaged, match="cut off"):
            frame(SMALL[:length])


def test_no_two_frames_are_told_apart_differently_from_libjpeg() -> None:
    """With a second frame header in the file, libjpeg reads the size that is read here, or refuses the file."""
    borders = [at for at in range(2, len(SMALL) - 1) if SMALL[at] == 0xFF and SMALL[at + 1] not in (0, 0xFF)]
    other = sof(0xC0, height=400, width=600)
    wraps = (b"%b", b"\xff\xff%b", b"\xff\xfe\0\2%b", b"\xff\xe1\0\x04\xff\xd8%b", b"\0%b", b"\xff\0%b", b"\xff\xd0%b")
    for at, wrap in itertools.product(borders, wraps):
        file = SMALL[:at] + wrap % other + SMALL[at:]
        try:
            found = frame(file)
        except (Damaged, NotDecoded):
            continue
        height, width, *_ = simplejpeg.decode_jpeg_header(file, strict=False)
        assert (found.width, found.height) == (width, height)
