"""Forms of a file's row: a JSON object, a row of CSV, or lines for people."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, Final, Protocol

from rich.cells import cell_len, set_cell_size

from commands.files import shown
from deployments.http.responses import described
from pipeline.records import Outcome, Prediction

_LONGEST_NAME: Final = 40
"""Limit on the columns of a file's name in a table; a longer name has its own line."""


class Rows(Protocol):
    """A form of output."""

    header: bytes

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Formats the row of one file, with its line end."""


class JsonLines:
    """JSON Lines: an object with `file`, and `predictions` or `error`."""

    header = b""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Formats an object; undecodable bytes of a name become surrogate escapes, as for `os.fsencode`."""
        body: dict[str, Any] = {"file": file}
        if isinstance(outcome, Prediction):
            body |= outcome.as_json(top_k=self._top_k)
        else:
            body["error"] = described(outcome.error)
        try:
            return json.dumps(body, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:
            return json.dumps(body).encode() + b"\n"


class Csv:
    """CSV: a row with the file's name, its labels and scores, best first, and its error.

    Names are written as their raw bytes. Line ends are those of Unix.
    """

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        classes = (f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("label", "score"))
        self.header = _csv_row(["file", *classes, "error"])

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Formats a row; cells without a class are empty."""
        classes: list[str] = []
        error = ""
        if isinstance(outcome, Prediction):
            for each in outcome.as_json(top_k=self._top_k)["predictions"]:
                classes += [each["label"], str(each["score"])]
        else:
            problem = described(outcome.error)
            error = f"{problem['title']}: {problem['detail']}"
        classes += [""] * (2 * self._top_k - len(classes))
        return _csv_row([file, *classes, error])


class Table:
    """Text for people: a line for each class, beside the file's name.

    Args:
        top_k: number of classes of each file.
        files: names of all files, for the width of the column.
    """

    header = b""

    def __init__(self, top_k: int, files: Iterable[str]) -> None:
        self._top_k = top_k
        self._width = min(_LONGEST_NAME, max((cell_len(shown(file)) for file in files), default=0))

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Formats the name with its classes, or its error, to the right."""
        if isinstance(outcome, Prediction):
            lines = [
                f"{each['score']:7.1%}  {each['label']}" for each in outcome.as_json(top_k=self._top_k)["predictions"]
            ]
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
    """Formats cells by RFC 4180 with Unix line ends.

    The writer ends lines with CRLF, as otherwise it leaves a CR in a cell unquoted.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape") + b"\n"
