"""What is written of a file: a JSON object, a row of CSV, or lines for people."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from rich.cells import cell_len, set_cell_size

from commands.files import shown
from deployments.responses import described, predictions
from pipeline.records import Outcome, Prediction

_LONGEST_NAME: Final = 40
"""Columns of a file's name in the lines for people; a longer one stands in a line of its own."""


class NotARow(Exception):
    """A file that should be gone on with holds something else; the message says what."""


class Rows(Protocol):
    """A form of output."""

    header: bytes

    def row(self, file: str, outcome: Outcome) -> bytes:
        """What is written of one file, with the end of its line."""


class ResumableRows(Rows, Protocol):
    """A form that can be read again."""

    beginning: bytes  # of every output

    def complete_bytes(self, output: Iterable[bytes]) -> int:
        """How much of an output, given by its lines, is complete rows."""

    def files(self, output: Iterable[bytes]) -> Iterator[str]:
        """The files that have a row in an output of complete rows, given by its lines.

        Raises:
            NotARow: something else is in it.
        """


class JsonLines:
    """An object a line: `file`, and `predictions` or `error`."""

    header = b""
    beginning = b'{"file": "'

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def row(self, file: str, outcome: Outcome) -> bytes:
        """A name that is no text stands with Python's surrogate escapes, as `os.fsencode` takes them."""
        body: dict[str, Any] = {"file": file}
        if isinstance(outcome, Prediction):
            body["predictions"] = predictions(outcome, self._top_k)
        else:
            body["error"] = described(outcome.error)
        try:
            return json.dumps(body, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:
            return json.dumps(body).encode() + b"\n"

    def complete_bytes(self, output: Iterable[bytes]) -> int:
        """Up to the last end of a line."""
        return sum(len(line) for line in output if line.endswith(b"\n"))

    def files(self, output: Iterable[bytes]) -> Iterator[str]:
        """The `file` of each line."""
        for number, line in enumerate(output, start=1):
            try:
                yield str(json.loads(line)["file"])
            except (ValueError, TypeError, LookupError) as error:
                raise NotARow(f"line {number} is no object with a file") from error


class Csv:
    """A row a file: its name, labels and scores from the best on, and what is wrong with it.

    Names are written as the bytes that they are. Ends of lines are those of Unix.
    """

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        classes = (f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("label", "score"))
        self._columns = ["file", *classes, "error"]
        self.header = self.beginning = _csv_row(self._columns)

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Cells of classes that the model does not have, or the file does not get, are empty."""
        classes: list[str] = []
        error = ""
        if isinstance(outcome, Prediction):
            for each in predictions(outcome, self._top_k):
                classes += [each["label"], str(each["score"])]
        else:
            problem = described(outcome.error)
            error = f"{problem['title']}: {problem['detail']}"
        classes += [""] * (2 * self._top_k - len(classes))
        return _csv_row([file, *classes, error])

    def complete_bytes(self, output: Iterable[bytes]) -> int:
        """Up to the last end of a line that does not stand in quotes."""
        complete = size = quotes = 0
        for line in output:
            size += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                complete = size
        return complete

    def files(self, output: Iterable[bytes]) -> Iterator[str]:
        """The first cell of each row, where the columns are the same."""
        rows = csv.reader(line.decode("utf-8", "surrogateescape") for line in output)
        if next(rows, self._columns) != self._columns:
            raise NotARow(f"its first line is not {self.header.decode().strip()}, as with this --top-k")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(self._columns):
                raise NotARow(f"row {number} has {len(row)} cells instead of {len(self._columns)}")
            yield row[0]


class Table:
    """Lines for people: a class a line, beside the name of the file.

    Args:
        top_k: classes of each file.
        files: all that will come; they say how wide the names are.
    """

    header = b""

    def __init__(self, top_k: int, files: Iterable[str]) -> None:
        self._top_k = top_k
        self._width = min(_LONGEST_NAME, max((cell_len(shown(file)) for file in files), default=0))

    def row(self, file: str, outcome: Outcome) -> bytes:
        """The name, and right of it the classes, or what is wrong."""
        if isinstance(outcome, Prediction):
            lines = [f"{each['score']:7.1%}  {each['label']}" for each in predictions(outcome, self._top_k)]
        else:
            problem = described(outcome.error)
            lines = [f"      -  {problem['title']}: {problem['detail']}"]
        beside, text = shown(file), ""
        if cell_len(beside) > self._width:
            beside, text = "", f"{beside}\n"
        for line in lines:
            text += f"{set_cell_size(beside, self._width)}  {line}\n"
            beside = ""
        return text.encode()


def _csv_row(cells: Iterable[str]) -> bytes:
    """As RFC 4180 wants it, but for the end of the line: with its own, the writer quotes what looks like half of it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape") + b"\n"
