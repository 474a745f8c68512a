"""Tests of counting the scans of a JPEG, each with the coefficients that it visits."""

import pytest

from harness.costly_images import progressive_jpeg
from harness.photographs import jpeg, photograph
from pipeline.images.jpeg_header import JpegFrame, read_frame
from pipeline.images.jpeg_scans import MAX_SCANS, SINGLE_SCAN, Scans
from pipeline.images.piecewise import Piecewise


def frame(file: bytes) -> JpegFrame:
    return read_frame(Piecewise([file]))


@pytest.mark.parametrize(("subsampling", "chroma"), [("4:4:4", 1.0), ("4:2:2", 0.5), ("4:2:0", 0.25)])
def test_a_photograph_in_progressive_coding(subsampling: str, chroma: float) -> None:
    """A progressive photograph has ten scans, half of which refine.

    They read DC of all twice, AC of luma four times and AC of each chroma twice.
    """
    luma, both = 1.0, 2 * chroma
    read = frame(jpeg(photograph("cat"), progressive=True, subsampling=subsampling))
    assert read.components == {1: luma, 2: chroma, 3: chroma}
    assert read.scans == Scans(10, 2 * (luma + both) + 4 * luma + 2 * both, 2 * luma + both)


def test_one_scan_that_has_all_is_not_looked_for() -> None:
    assert frame(jpeg(photograph("cat"))).scans == SINGLE_SCAN


def test_a_thumbnail_has_no_part_in_it() -> None:
    """Scans of a thumbnail do not count, only those after the file's own header."""
    thumbnail = jpeg(photograph("cat").resize((16, 16)), progressive=True)
    file = jpeg(photograph("cat"), progressive=True)
    with_it = file[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail + file[2:]
    assert frame(with_it).scans == frame(file).scans


def test_counting_ends_soon_after_the_limit() -> None:
    """Counting scans stops just above the limit, however many there are."""
    assert frame(progressive_jpeg((8, 8), 1, 6, bands=63)).scans.count == 442 < MAX_SCANS
    assert frame(progressive_jpeg((8, 8), 1, 13, bands=63)).scans.count == MAX_SCANS + 1


def test_a_scan_without_an_end_or_of_unknown_components_counts() -> None:
    """A scan without an end or of unknown components counts as one component's work, which a decoder may do."""
    whole = progressive_jpeg((8, 8), 1, 0)[:-2]
    for scan in (b"\xff\xda", b"\xff\xda\0\x08\1\x09\0\1\x3f\x10"):
        assert frame(whole + scan).scans.count == 3
