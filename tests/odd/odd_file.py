"""One odd file and the answer that it must get."""

import io
from dataclasses import dataclass, field

from PIL import Image

ANSWERED = 200
TOO_MUCH = 413
UNSUPPORTED = 415
DAMAGED = 422


@dataclass(frozen=True, slots=True, eq=False)
class OddFile:
    """A file, and the answer that a service must give."""

    kind: str  # files of one kind make one row of the table
    name: str
    data: bytes = field(repr=False)
    statuses: tuple[int, ...]  # HTTP statuses, one of which must be given, the same in both modes
    picture: Image.Image | None = None  # the picture whose answer the file must get
    says: str = ""  # regular expression, without regard to case, that the message must match
    tolerance: float = 0.03  # of a score in `decode: fast`

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def answered(kind: str, name: str, data: bytes, picture: Image.Image, *, tolerance: float = 0.03) -> OddFile:
    """Return a file that must get the answer of the picture."""
    return OddFile(kind, name, data, (ANSWERED,), picture, tolerance=tolerance)


def unsupported(kind: str, name: str, data: bytes, says: str = "") -> OddFile:
    """Return a file of a format or coding that is not decoded, and must be named in the refusal."""
    return OddFile(kind, name, data, (UNSUPPORTED,), says=says)


def damaged(kind: str, name: str, data: bytes, says: str = "") -> OddFile:
    """Return a file that lacks something that its pixels need, or has it wrong."""
    return OddFile(kind, name, data, (DAMAGED,), says=says)


def refused_or(kind: str, name: str, data: bytes, picture: Image.Image | None, *statuses: int) -> OddFile:
    """Return a file that may be answered, or refused with one of these statuses, alike in both modes."""
    return OddFile(kind, name, data, (ANSWERED, *statuses), picture)


def too_much(kind: str, name: str, data: bytes, says: str = "") -> OddFile:
    """Return a file that would cost more than any image may."""
    return OddFile(kind, name, data, (TOO_MUCH,), says=says)


def by_pillow(data: bytes) -> Image.Image:
    """Return the reference for a valid file: Pillow's `convert("RGB")`, as torchvision's datasets read it."""
    return Image.open(io.BytesIO(data)).convert("RGB")
