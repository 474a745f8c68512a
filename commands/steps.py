"""Progress bar on the terminal for work in steps: the current step and the time left."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from commands.progress import clock
from commands.terminal import Terminal


class _Left(ProgressColumn):
    """Column with the time left, by the expected durations of the steps."""

    def render(self, task: Task) -> Text:
        """Render the time left; 0:00 if a step takes longer than expected."""
        return Text(f"{clock(max(0.0, (task.total or 0) - task.completed))} left")


class StepsBar:
    """Shows a bar if stderr is a terminal, otherwise a line for each step."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self.title = "starting"
        self._progress = Progress(
            BarColumn(24),
            _Left(),
            TextColumn("{task.description}"),
            console=Terminal(stderr=True, highlight=False),
            transient=True,
            disable=not sys.stderr.isatty(),
            get_time=time.monotonic,
        )
        self._task = self._progress.add_task(self.title, total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def tell(self, title: str, left_s: float) -> None:
        """Show that a step begins, and the seconds left including it."""
        self.title = title
        spent_s = time.monotonic() - self._began_at
        if self._progress.disable:
            sys.stderr.write(f"darkroom: {title} ({round(left_s)} s left)\n")
        self._progress.update(self._task, description=title, total=spent_s + left_s, completed=spent_s)
