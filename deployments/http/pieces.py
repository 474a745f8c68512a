"""The pieces in which a file arrives, kept as they are."""

from typing import Final

from pipeline.records import Bytes

SMALL_BYTES: Final = 4096


def add_piece(pieces: list[Bytes], piece: Bytes) -> None:
    """Appends a piece. Small ones that follow each other become one, since an object takes up to 200 bytes of its own.

    A body that came byte by byte would otherwise take that many times what the limits allow.
    """
    if len(piece) >= SMALL_BYTES:
        pieces.append(piece)
    elif pieces and isinstance(pieces[-1], bytearray):
        pieces[-1] += piece
    elif piece:
        pieces.append(bytearray(piece))
