"""The pieces in which a file arrives, kept without joining them."""

from typing import Final

from pipeline.records import Bytes

SMALL_BYTES: Final = 4096


def add_piece(pieces: list[Bytes], piece: Bytes) -> None:
    """Append a piece. Small pieces in a row are merged, since each Python object takes up to 200 extra bytes.

    A body that arrives byte by byte would otherwise take 200 times the memory that the limits allow.
    """
    if len(piece) >= SMALL_BYTES:
        pieces.append(piece)
    elif pieces and isinstance(pieces[-1], bytearray):
        pieces[-1] += piece
    elif piece:
        pieces.append(bytearray(piece))
