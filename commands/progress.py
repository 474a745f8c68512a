"""Progress bar on the terminal: share done, images a second and time left."""

import sys
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from commands.terminal import Terminal

REDRAWN_HZ = 4
"""Redraws a second: drawing uses the cores that decode."""

SPEED_SHOWN_AFTER_S = 2.0
"""Seconds before a speed is shown: the first files come in bursts."""


def clock(seconds: float) -> str:
    """Format a time in minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


class Pace(ProgressColumn):
    """Column with the recent images a second and the time left; at the end, both of the whole run."""

    def render(self, task: Task) -> Text:
        """Render nothing before the speed has settled."""
        if task.finished:
            took_s = task.finished_time or 0.0
            return Text(f"{task.completed / took_s:.1f} images/s, took {clock(took_s)}" if took_s else "")
        if not task.speed or (task.elapsed or 0.0) < SPEED_SHOWN_AFTER_S:
            return Text("")
        return Text(f"{task.speed:.1f} images/s, {clock(task.time_remaining or 0.0)} left")


class Bar:
    """Shows the progress on stderr if that is a terminal; otherwise does nothing.

    Rows that go to the terminal too are written above the bar, by `write`.

    Args:
        total: number of files.
        above: whether rows are written above the bar; then the bar disappears at the end.
    """

    def __init__(self, total: int, *, above: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Pace(),
            console=Terminal(stderr=not above),
            transient=above,
            refresh_per_second=REDRAWN_HZ,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("starting", total=total, start=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self) -> None:
        """Start the clock, once the engine runs."""
        self._progress.reset(self._task, description="labelling")

    def advance(self) -> None:
        """Count one more file as done."""
        self._progress.advance(self._task)

    def write(self, row: bytes) -> None:
        """Print a row above the bar."""
        self._progress.console.print(Text(row.decode("utf-8", "replace")), end="", soft_wrap=True)
