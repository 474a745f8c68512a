"""Steps of a run, with their expected durations."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run."""

    title: str
    seconds: float  # about
    act: Callable[[], None]


def number(count: int, what: str) -> str:
    """Format a count with its noun, e.g. "2 workers"."""
    return f"{count} {what}{'es' if what.endswith('batch') else 's'}" if count != 1 else f"{count} {what}"
