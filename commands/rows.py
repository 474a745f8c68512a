"""Forms of a file's row: a JSON object, a row of CSV, or lines for people."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from rich.cells import cell_len, set_cell_size

from commands.files import shown
from deployments.http.responses import described
from pipeline.head_parameters import Value
from pipeline.records import Outcome, Prediction
from pipeline.result import as_text

_LONGEST_NAME: Final = 40
"""Limit on the columns of a file's name in a table; a longer name has its own line."""


class Rows(Protocol):
    """A form of output."""

    header: bytes

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Format the row of one file, with its line end."""


class JsonLines:
    """JSON Lines: an object with `file`, and the service's answer or `error`.

    Args:
        parameters: values of the head's parameters.
    """

    header = b""

    def __init__(self, parameters: Mapping[str, Value]) -> None:
        self._parameters = parameters

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Format an object; undecodable bytes of a name become surrogate escapes, as for `os.fsencode`."""
        body: dict[str, Any] = {}
        if isinstance(outcome, Prediction):
            body |= outcome.as_json(**self._parameters)
        else:
            body["error"] = described(outcome.error)
        try:
            return as_text({"file": file} | body).encode() + b"\n"
        except TypeError:  # the name is not valid text
            members = as_text(body).removeprefix("{")
            return f'{{"file":{json.dumps(file)},{members}\n'.encode()


class Csv:
    """CSV: a row with the file's name, the head's columns, and its error.

    Names are written as their raw bytes. Line ends are those of Unix.

    Args:
        parameters: values of the head's parameters.
        columns: names of the head's columns.
    """

    def __init__(self, parameters: Mapping[str, Value], columns: Sequence[str]) -> None:
        self._parameters, self._columns = parameters, columns
        self.header = _csv_row(["file", *columns, "error"])

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Format a row; all cells between name and error are empty for a file without a result."""
        if isinstance(outcome, Prediction):
            return _csv_row([file, *outcome.cells(**self._parameters), ""])
        problem = described(outcome.error)
        return _csv_row([file, *[""] * len(self._columns), f"{problem['title']}: {problem['detail']}"])


class Table:
    """Text for people: the lines of each result, beside the file's name.

    Args:
        parameters: values of the head's parameters.
        files: names of all files, for the width of the column.
    """

    header = b""

    def __init__(self, parameters: Mapping[str, Value], files: Iterable[str]) -> None:
        self._parameters = parameters
        self._width = min(_LONGEST_NAME, max((cell_len(shown(file)) for file in files), default=0))

    def row(self, file: str, outcome: Outcome) -> bytes:
        """Format the name with its result, or its error, to the right."""
        if isinstance(outcome, Prediction):
            lines = outcome.lines(**self._parameters)
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
    """Format cells by RFC 4180 with Unix line ends.

    The writer ends lines with CRLF, as otherwise it leaves a CR in a cell unquoted.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode("utf-8", "surrogateescape") + b"\n"
