"""Entropy-coded bytes of a JPEG: where they end, and other bytes to put in their place."""

import re
from typing import Final

END_MARKER: Final = b"\xff\xd9"
NOISE_BYTES: Final = bytes((97 * place + 229) % 251 for place in range(1, 2000))
"""Bytes without any marker: pixels that change with them were coded where they are put."""

_OTHER_MARKER: Final = re.compile(rb"\xff++[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""Marker that is neither a restart marker nor a stuffed zero, and so ends the entropy-coded bytes."""


def up_to_marker(file: bytes, begin: int) -> bytes:
    """Return the file up to the marker that ends the entropy-coded bytes, which begin at `begin`."""
    end = _OTHER_MARKER.search(file, begin)
    return (file[: end.start()] if end else file).rstrip(b"\xff")
