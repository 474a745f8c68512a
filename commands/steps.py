"""A bar on the terminal for work in steps: what it is at, and how long it will take."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from commands.progress import clock
from commands.terminal import Terminal


class _Left(ProgressColumn):
    """The time that is left, by what the steps should take."""

    def render(self, task: Task) -> Text:
        """0:00 where a step takes longer than it should."""
        return Text(f"{clock(max(0.0, (task.total or 0) - task.completed))} left")


class StepsBar:
    """Where stderr is a terminal, a bar; elsewhere a line for each step."""

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
        """A step begins; so many seconds are left, with it."""
        self.title = title
        spent_s = time.monotonic() - self._began_at
        if self._progress.disable:
            sys.stderr.write(f"darkroom: {title} ({round(left_s)} s left)\n")
        self._progress.update(self._task, description=title, total=spent_s + left_s, completed=spent_s)
