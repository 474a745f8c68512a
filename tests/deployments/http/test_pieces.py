"""Test of the pieces in which a file arrives."""

from deployments.http.pieces import SMALL_BYTES, add_piece
from pipeline.records import Bytes


def gathered(*pieces: Bytes) -> list[Bytes]:
    result: list[Bytes] = []
    for piece in pieces:
        add_piece(result, piece)
    return result


def test_large_pieces_are_kept_as_they_are() -> None:
    large = b"x" * SMALL_BYTES
    first, second = gathered(large, large)
    assert first is large
    assert second is large


def test_small_pieces_become_one() -> None:
    """Small pieces are joined: a body that arrives byte by byte takes one object, not one for each byte."""
    assert gathered(*[b"x"] * 10_000) == [b"x" * 10_000]


def test_pieces_keep_their_order() -> None:
    large = b"y" * SMALL_BYTES
    assert b"".join(gathered(b"a", b"", b"b", large, memoryview(b"c"), b"d", large)) == b"ab" + large + b"cd" + large


def test_nothing_is_no_piece() -> None:
    assert gathered(b"", b"") == []
