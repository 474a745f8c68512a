"""Figures of a run, and parts of it that gave none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TIMES: Final = ("s", "ms", "us")
"""Units of which less is better; of every other unit more is better."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Args:
        what: what was measured, understood without the step's name.
        value: how much of it.
        unit: of the value, e.g. "images/s".
        sets: name of a ceiling that this figure measures. The best figure of a name is the ceiling.
        of: names of the ceilings that this figure is held against. The lowest of them counts.
        note: more about it, a few words for the table.
        details: more about it, for a program to read.
    """

    what: str
    value: float
    unit: str
    sets: str = ""
    of: tuple[str, ...] = ()
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that was to be measured and was not.

    Args:
        what: what it was.
        reason: an error's type and message, or why it was left out.
    """

    what: str
    reason: str
