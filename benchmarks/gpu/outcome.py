"""Figures of a run, and missing figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

TIME_UNITS: Final = ("s", "ms", "us")
"""Units in which less is better; in every other unit more is better."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Args:
        what: description, understood without the step's name.
        value: the measured value.
        unit: unit of the value, e.g. "images/s".
        sets: name of a ceiling that this figure measures. The best figure of a name is the ceiling.
        of: names of the ceilings for this figure. The lowest of them counts.
        note: a few more words for the table.
        details: more data, for programs.
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
    """A figure that could not be measured.

    Args:
        what: description of the figure.
        reason: an error's type and message, or the reason to leave it out.
    """

    what: str
    reason: str
