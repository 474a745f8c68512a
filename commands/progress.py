"""A bar on the terminal: how far it is, how fast, and how long it will take."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

REDRAWN_HZ = 4
"""How often: it is drawn on the cores that decode."""


class _Speed(ProgressColumn):
    """Images a second, lately."""

    def render(self, task: Task) -> Text:
        """Nothing before the first two."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} images/s" if speed else "")


class Bar:
    """Where stderr is a terminal, shows the progress there; elsewhere does nothing.

    Rows that go to the terminal too are written above the bar, by `write`.

    Args:
        total: files.
        above: whether rows are written above it; then it goes away at the end.
    """

    def __init__(self, total: int, *, above: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=not above),
            transient=above,
            refresh_per_second=REDRAWN_HZ,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("starting", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self) -> None:
        """The engine runs."""
        self._progress.update(self._task, description="labelling")

    def advance(self) -> None:
        """One file more."""
        self._progress.advance(self._task)

    def write(self, row: bytes) -> None:
        """Takes a row, for the terminal."""
        self._progress.console.print(Text(row.decode("utf-8", "replace")), end="", soft_wrap=True)
