"""Settings of a part of a run: where it writes, how long it has, and whether it runs for real."""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.gpu.outcome import Figure, Missing

Case = TypeVar("Case")

_KEPT: Final = 400
"""Characters of a long message that are kept at either end."""


@dataclass(frozen=True, slots=True)
class PartSetting:
    """Folder, deadline and size of a part.

    Args:
        out: folder for what is worth keeping beside the figures.
        ends_at: when the part is stopped, by `time.monotonic`.
        dry: little of everything, on the CPU that poses as a CUDA device: a trial of every line, not a measurement.
        cases: parts of names of cases to be measured; all of them where it is empty.
    """

    out: Path
    ends_at: float
    dry: bool
    cases: tuple[str, ...] = ()

    @property
    def left_s(self) -> float:
        """Seconds until the part is stopped."""
        return self.ends_at - time.monotonic()

    def each(
        self,
        cases: Iterable[Case],
        measure: Callable[[Case], Figure | Iterable[Figure | Missing]],
        *,
        needs_s: float = 5.0,
    ) -> Iterator[Figure | Missing]:
        """Measures one case after another; one that fails, or has no time left, is told, and the next one runs.

        Args:
            cases: in the order of their value; `str` of a case is its name where it has no figures.
            measure: gives the figure, or the figures, of a case.
            needs_s: seconds without which a case is not begun.
        """
        for case in cases:
            if self.left_s < needs_s:
                yield Missing(str(case), "left out: no time left")
                continue
            try:
                found = measure(case)
                yield from [found] if isinstance(found, Figure) else found
            except Exception as error:  # noqa: BLE001 - CUDA, compilers and services raise anything
                traceback.print_exc(file=sys.stderr)
                yield Missing(str(case), told(error))


def told(error: Exception) -> str:
    """An error in one line of a record: of a long message the beginning and the end, where the cause mostly stands."""
    message = str(error)
    if len(message) > 2 * _KEPT:
        message = f"{message[:_KEPT]} ... {message[-_KEPT:]}"
    return f"{type(error).__name__}: {message}"
