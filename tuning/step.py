"""A part of a run, which says how long it will take."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the run."""

    title: str
    seconds: float  # about
    act: Callable[[], None]


def number(count: int, what: str) -> str:
    """A count and its noun, e.g. "2 workers"."""
    return f"{count} {what}{'es' if what.endswith('batch') else 's'}" if count != 1 else f"{count} {what}"
