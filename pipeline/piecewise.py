"""Reads a file that lies in memory in several pieces, without joining them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final

from pipeline.records import Bytes

_HEAD_BYTES: Final = 1024
"""Copied at once: the header of an ordinary photograph ends before that."""


class Piecewise:
    """The bytes of a file, read by offset.

    Args:
        pieces: the file, in one piece or in several that follow each other.

    Attributes:
        size: bytes of the file.
    """

    __slots__ = ("_ends", "_head", "_pieces", "size")

    def __init__(self, pieces: Sequence[Bytes]) -> None:
        self._pieces = [piece for piece in pieces if len(piece)]
        self._ends = list(accumulate(map(len, self._pieces)))
        self.size = self._ends[-1] if self._ends else 0
        self._head = bytes(self._pieces[0][:_HEAD_BYTES]) if self._pieces else b""

    def read(self, start: int, count: int) -> bytes:
        """At most `count` bytes from `start` on; fewer at the end of the file."""
        end = start + count
        if end <= len(self._head):
            return self._head[start:end]
        found = []
        for index in range(bisect_right(self._ends, start), len(self._pieces)):
            begin = self._ends[index] - len(self._pieces[index])
            if begin >= end:
                break
            found.append(bytes(self._pieces[index][max(0, start - begin) : end - begin]))
        return b"".join(found)

    def count(self, pair: bytes) -> int:
        """How often two different bytes follow each other in the file, across the borders of its pieces too."""
        within = sum(bytes(piece).count(pair) for piece in self._pieces)
        return within + sum(bytes((one[-1], other[0])) == pair for one, other in pairwise(self._pieces))
