"""Tests of a file in pieces, which reads as the same file in one piece."""

import itertools

import pytest

from pipeline.images.piecewise import Piecewise
from pipeline.records import Bytes

FILE = bytes(range(256)) * 12 + b"\xff\xda\xff\xda"
CUTS = [(), (1,), (1023,), (1024,), (1025, 1026, 1027), (5, 5, 2000), (len(FILE) - 1,), (len(FILE) - 2,), (len(FILE),)]


def pieces(cuts: tuple[int, ...]) -> list[memoryview]:
    return [memoryview(FILE)[start:end] for start, end in itertools.pairwise((0, *cuts, len(FILE)))]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_reads_are_those_of_the_joined_file(cuts: tuple[int, ...]) -> None:
    file = Piecewise(pieces(cuts))
    assert file.size == len(FILE)
    for start in (0, 1, 1000, 1020, 1024, 2000, len(FILE) - 3, len(FILE), len(FILE) + 9):
        for count in (0, 1, 2, 8, 30, 4096):
            assert file.read(start, count) == FILE[start : start + count]


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_pair_is_found_across_borders(cuts: tuple[int, ...]) -> None:
    """A pair of bytes is found across the borders of pieces, from any start."""
    file, last = Piecewise(pieces(cuts)), len(FILE) - 2
    assert list(file.find_all(b"\xff\xda")) == [last - 2, last]
    for start in (last - 3, last - 2):
        assert list(file.find_all(b"\xff\xda", start)) == [last - 2, last]
    assert list(file.find_all(b"\xff\xda", last - 1)) == [last]
    assert list(file.find_all(b"\xff\xda", last + 1)) == []


def test_a_file_of_nothing_has_no_bytes() -> None:
    pieces: tuple[list[Bytes], ...] = ([], [b""], [b"", bytearray()])
    for nothing in pieces:
        assert Piecewise(nothing).size == 0
        assert Piecewise(nothing).read(0, 9) == b""
