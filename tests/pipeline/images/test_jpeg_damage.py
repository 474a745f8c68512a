"""Tests of damaged JPEGs: the error says how many rows could be read, and a flaw that costs no pixel is accepted."""

import io
import re
import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from harness.photographs import jpeg, photograph
from pipeline.errors import UndecodableImage
from pipeline.images.header import read_header
from pipeline.images.jpeg import decode_jpeg
from pipeline.images.jpeg_header import segments
from pipeline.images.piecewise import Piecewise
from tests.support.image_files import lossless_jpeg

END = b"\xff\xd9"
CAT = photograph("cat")  # 451 x 300
KINDS = {
    "baseline": jpeg(CAT),
    "grey": jpeg(CAT.convert("L")),
    "cmyk": jpeg(CAT.convert("CMYK")),
    "restarts": jpeg(CAT, restart_marker_rows=1),
    "progressive": jpeg(CAT, progressive=True),
    "lossless": lossless_jpeg((451, 300), 3),
    "odd sampling": jpeg(CAT.convert("CMYK"), subsampling=1),
}


def check(data: bytes, part: int = 1) -> np.ndarray:
    return decode_jpeg(memoryview(data), read_header((data,), ("JPEG",)), part)


def rows(data: bytes, part: int = 1) -> tuple[int, int]:
    """Return the readable rows and all rows, as the message of the refusal gives them."""
    with pytest.raises(UndecodableImage) as raised:
        check(data, part)
    found = re.match(r"the image is damaged: (\d+) of (\d+) rows could be read", str(raised.value))
    assert found, raised.value
    return int(found[1]), int(found[2])


def pixels_at(data: bytes) -> int:
    *_, (_, _, end) = segments(Piecewise((data,)))
    return end


def of_height(data: bytes, height: int) -> bytes:
    at = next(begin for marker, begin, _ in segments(Piecewise((data,))) if 0xC0 <= marker <= 0xC3)
    return data[: at + 1] + struct.pack(">H", height) + data[at + 3 :]


@pytest.mark.parametrize("part", [1, 8])
@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("progressive", "lossless")])
def test_the_rows_are_those_that_are_the_same_in_the_whole(name: str, part: int) -> None:
    """The reported rows are those that equal the whole file's, except for one or two blocks."""
    file = KINDS[name]
    for kept in (0.2, 0.5, 0.9):
        cut = file[: pixels_at(file) + int(kept * (len(file) - pixels_at(file)))]
        image = Image.open(io.BytesIO(cut + END)).convert("RGB")
        same = (np.asarray(image) == np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))).all((1, 2))
        for damaged in (cut, cut + END):
            found, height = rows(damaged, part)
            assert height == 300
            assert int(np.argmin(same)) - 24 <= found <= int(np.argmin(same)) + 1


@pytest.mark.parametrize("part", [1, 8])
def test_of_a_progressive_one_no_row_is_whole_until_all_scans_are(part: int) -> None:
    file = KINDS["progressive"]
    for kept in (0.3, 0.6, 0.98):
        for cut in (file[: int(kept * len(file))], file[: int(kept * len(file))] + END):
            assert rows(cut, part) == (0, 300)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_end_marker_after_the_last_row_is_no_damage(name: str) -> None:
    file = KINDS[name]
    for cut in (file[:-2], file[:-1]):
        np.testing.assert_array_equal(check(cut), check(file))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("extra", [b"\1\2", bytes(16), bytes(5000), b"\xff" * 16], ids=["2", "16", "5000", "fill"])
def test_bytes_that_fill_up_the_end_are_no_damage(name: str, extra: bytes) -> None:
    file = KINDS[name]
    for padded in (file[:-2] + extra + END, file + extra, file + b"garbage" + extra):
        np.testing.assert_array_equal(check(padded), check(file))


@pytest.mark.parametrize("name", ["baseline", "grey", "cmyk", "restarts", "odd sampling"])
def test_a_height_that_is_too_large_is_damage(name: str) -> None:
    assert rows(of_height(KINDS[name], 1200))[0] in range(300, 320)
    assert rows(of_height(KINDS[name], 1200))[1] == 1200


@pytest.mark.parametrize("name", ["baseline", "grey", "cmyk", "restarts"])
def test_a_height_that_is_too_small_is_damage(name: str) -> None:
    found, height = rows(of_height(KINDS[name], 200))
    assert 180 < found <= height == 200


@pytest.mark.parametrize("name", ["baseline", "grey", "cmyk", "restarts", "progressive", "odd sampling"])
def test_zeros_in_place_of_4_kb_are_damage(name: str) -> None:
    file = KINDS[name]
    found, height = rows(file[:12_000] + bytes(4096) + file[16_096:])
    assert found < height == 300


@pytest.mark.parametrize("name", ["baseline", "grey", "cmyk", "restarts", "odd sampling"])
@pytest.mark.parametrize("marker", [b"\xff\xc4", b"\xff\x17", b"\xff" * 30 + b"\x3a", END])
def test_a_marker_among_the_pixels_ends_them(name: str, marker: bytes) -> None:
    file = KINDS[name]
    middle = (pixels_at(file) + len(file)) // 2
    assert 60 < rows(file[:middle] + marker + file[middle:])[0] < 240


def test_a_scan_that_is_missing_is_damage() -> None:
    """A missing scan is damage, although the decoder takes its coefficients for zero without a warning."""
    file = KINDS["progressive"]
    scans = [found.start() for found in re.finditer(b"\xff\xda", file)]
    for scan in scans[1:]:
        tables = file.rindex(b"\xff\xc4", 0, scan)
        for end in (b"", END):
            assert rows(file[:tables] + end) == (0, 300)


def test_a_table_that_is_not_there_leaves_no_row() -> None:
    file = KINDS["baseline"]
    _, start, end = next(found for found in segments(Piecewise((file,))) if found[0] == 0xDB)
    assert rows(file[: start - 4] + file[end:]) == (0, 300)


def test_telling_the_rows_of_a_large_one_takes_no_long_search() -> None:
    """Counting the rows of a large file decodes only few parts of it, and all counted rows are sound."""
    file = jpeg(CAT.resize((3000, 2000)))
    middle = len(file) // 2
    found, height = rows(file[:middle] + b"\xff\xc4" + file[middle:], 8)
    assert 400 < found < 1100
    assert height == 2000


@pytest.mark.parametrize("name", ["baseline", "grey", "cmyk"])
def test_a_half_that_was_never_written_is_not_taken_for_rows(name: str) -> None:
    """Zeros in place of the second half are not counted as rows, although libjpeg decodes them."""
    data = KINDS[name]
    half = len(data) // 2
    read, in_all = rows(data[:half] + bytes(len(data) - half - 2) + END)
    assert 0 < read < 0.75 * in_all


def test_the_rows_of_a_corrupt_file_of_many_bytes_are_not_counted() -> None:
    """The rows of a large corrupt file are not counted, as each search step would decode all of it.

    A truncated file needs no search.
    """
    noise = Image.effect_noise((2600, 2600), 90).convert("RGB")
    data = bytearray(jpeg(noise, quality=100, subsampling=0))
    assert len(data) > 8 << 20
    told = rows(bytes(data[: len(data) // 2]) + END)
    assert 0 < told[0] < told[1] == 2600
    data[len(data) // 2 : -2] = bytes(len(data) - len(data) // 2 - 2)
    with pytest.raises(UndecodableImage, match="fewer than 2600 of 2600 rows"):
        check(bytes(data))


def test_whatever_libjpeg_warns_of_in_the_pixels_is_refused() -> None:
    """A file whose pixels libjpeg warns about is refused. A change that it does not notice is answered."""
    chance, file = np.random.default_rng(22), KINDS["baseline"]
    noticed = 0
    for _ in range(80):
        changed = bytearray(file)
        at = int(chance.integers(pixels_at(file), len(file) - 40))
        changed[at : at + 16] = chance.integers(0, 255, 16, np.uint8).tobytes()
        try:
            simplejpeg.decode_jpeg(bytes(changed))
        except ValueError:
            noticed += 1
            rows(bytes(changed))
        else:
            check(bytes(changed))
    assert noticed > 10
