"""Settings of a part of a run: output folder, deadline, and dry run."""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from benchmarks.gpu.outcome import Figure, Missing

Case = TypeVar("Case")

_KEPT_CHARACTERS: Final = 400
"""Characters kept at the start and at the end of a long message."""


@dataclass(frozen=True, slots=True)
class PartSetting:
    """Folder, deadline and size of a part.

    Args:
        out: folder for further files beside the figures.
        ends_at: when the part is stopped, by `time.monotonic`.
        dry: a trial of every line with little work, on a fake CUDA device, not a measurement.
        cases: parts of names of the cases to measure; all if empty.
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
        """Measure one case after another; a case that fails or has no time left is reported, and the next one runs.

        Args:
            cases: cases, the most valuable first; `str` of a case is its name if it has no figures.
            measure: returns the figure or figures of a case.
            needs_s: least seconds to begin a case.
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
                yield Missing(str(case), shortened(error))


def shortened(error: Exception) -> str:
    """Describe an error in one line; of a long message only the start and the end, which mostly holds the cause."""
    message = str(error)
    if len(message) > 2 * _KEPT_CHARACTERS:
        message = f"{message[:_KEPT_CHARACTERS]} ... {message[-_KEPT_CHARACTERS:]}"
    return f"{type(error).__name__}: {message}"
