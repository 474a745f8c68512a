"""A run of `darkroom predict`: labels files, writes their rows and reports the end."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from commands.drawings import Drawings
from commands.ending import EXIT_FAILED, EXIT_REFUSED, say
from commands.files import shown
from commands.head_values import head_values
from commands.labelling import Labelling
from commands.output import Output, OutputClosed, OutputFailed
from commands.progress import Bar
from commands.rows import Csv, JsonLines, Rows, Table
from deployments.http.responses import described
from deployments.live_config import LiveConfig
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.errors import ServerError
from pipeline.head_parameters import Value
from pipeline.model.served import Head
from pipeline.records import Outcome, Prediction, Rejection

MAX_NAMED_FAULTS: Final = 20
"""Files without a prediction that are named at the end; the rows name all."""


class PredictRun:
    """Labels files and writes their rows.

    Args:
        files: names of the files.
        form: form of the rows, "jsonl", "csv" or "table".
        output: destination of the rows.
        bar: shows the progress.
        draw: empty folder for copies of the pictures with the results drawn into them, or None.
    """

    def __init__(self, files: Sequence[str], form: str, output: Output, bar: Bar, draw: Path | None = None) -> None:
        self._files, self._form, self._output, self._bar, self._draw = files, form, output, bar, draw
        self._done = self._bad = 0
        self._named: list[str] = []

    def label(self, pipeline: PipelineConfig, limits: LiveConfig | None, given: Mapping[str, str]) -> int:
        """Label all files, report errors and return the exit status.

        Args:
            pipeline: settings of the engine.
            limits: limits on the files, and usual values of the head's parameters.
            given: texts of the head's parameters, by name.

        Raises:
            NothingToDo: the head has no such parameter or does not allow the value.
        """
        try:
            with self._bar, Engine(pipeline, limits) as engine:
                values = head_values(engine.head, limits or LiveConfig(), given)
                rows, drawings = self._rows(engine.head, values), self._drawings(engine, values)
                self._output.write(rows.header)
                self._bar.begin()
                stopped_by = self._label(Labelling(engine, self._files), rows, drawings)
        except KeyboardInterrupt:  # while the engine starts or ends, or the second one
            stopped_by = signal.SIGINT
        except OutputClosed:
            return 128 + signal.SIGPIPE
        except (ServerError, OutputFailed) as error:
            return self._ended(f"{error}; ", EXIT_FAILED)
        if stopped_by:
            return self._ended("stopped: ", 128 + stopped_by)
        self._name_the_bad()
        return EXIT_REFUSED if self._bad else 0

    def _rows(self, head: Head, values: Mapping[str, Value]) -> Rows:
        if self._form == "table":
            return Table(values, self._files)
        return Csv(values, head.columns(**values)) if self._form == "csv" else JsonLines(values)

    def _drawings(self, engine: Engine, values: Mapping[str, Value]) -> Drawings | None:
        if self._draw is None:
            return None
        return Drawings(self._draw, self._files, engine.config, engine.limits.max_image_bytes, values)

    def _label(self, labelling: Labelling, rows: Rows, drawings: Drawings | None) -> int:
        """Write a row for each file; return the signal that ended the run early, or 0."""
        with stopped_by_signals(labelling) as received:
            for file, outcome in labelling.outcomes():
                self._output.write(rows.row(file, outcome))
                if drawings and isinstance(outcome, Prediction):
                    drawings.draw(file, outcome)
                self._note(file, outcome)
        return received[0] if received else 0

    def _note(self, file: str, outcome: Outcome) -> None:
        self._done += 1
        self._bar.advance()
        if isinstance(outcome, Rejection):
            self._bad += 1
            if self._bad <= MAX_NAMED_FAULTS:
                problem = described(outcome.error)
                self._named.append(f"{shown(file)}: {problem['title']}: {problem['detail']}")

    def _ended(self, why: str, status: int) -> int:
        self._name_the_bad()
        say(f"{why}{self._done} of {len(self._files)} files are done")
        return status

    def _name_the_bad(self) -> None:
        if self._bad:
            say(f"{self._bad} of {self._done} files have no prediction:")
        for line in self._named:
            say(f"  {line}")
        if self._bad > len(self._named):
            say(f"  and {self._bad - len(self._named)} more; their rows say why")


@contextmanager
def stopped_by_signals(labelling: Labelling) -> Iterator[list[int]]:
    """End the labelling after the current row on SIGINT or SIGTERM; a second signal ends it at once.

    Yields:
        The signals that have come; ignored ones never come, such as SIGHUP under `nohup`.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def stop(number: int, _: FrameType | None) -> None:
        received.append(number)
        labelling.stopped = True
        signal.signal(number, before[signal.Signals(number)])

    for number in taken:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
