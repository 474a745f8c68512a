"""Finds from the spelling of the setting `model` where a model comes from. Imports no torch, as checks use it too."""

import re
from enum import StrEnum
from typing import Final


class SourceKind(StrEnum):
    """Source of models; the value is its name in messages."""

    FUNCTION = "a function"
    TORCHVISION = "torchvision"
    TIMM = "timm"
    FILE = "a file"


_SPELLINGS: Final[dict[SourceKind, str]] = {
    SourceKind.TIMM: r"timm:.*",
    SourceKind.FUNCTION: r"[\w.]+:[\w.]+",
    SourceKind.FILE: r".*/.*|.*\.(pt2|pt|pth|ts|onnx)(#sha256=.*)?",
}
"""Spelling of `model` by source, as a regular expression for the whole value; the first that matches counts."""


def has_named_weights(model: str) -> bool:
    """Return whether the setting `weights` applies to a model; a file of the whole network has its own."""
    return source_kind(model) in (SourceKind.TORCHVISION, SourceKind.TIMM)


def source_kind(model: str) -> SourceKind:
    """Return the source of a model; a name without any special spelling is one of torchvision's."""
    kinds = (kind for kind, spelling in _SPELLINGS.items() if re.fullmatch(spelling, model))
    return next(kinds, SourceKind.TORCHVISION)
