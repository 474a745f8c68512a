"""The destination of rows: a file, or standard output."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from commands.files import NothingToDo


class OutputClosed(Exception):
    """Raised if the reader of the rows has gone."""


class OutputFailed(Exception):
    """Raised if the rows cannot be written; the message says why."""


class Output(Protocol):
    """A destination of rows."""

    def write(self, row: bytes) -> None:
        """Write a whole row, without a buffer.

        Raises:
            OutputClosed: the reader has gone.
            OutputFailed: the row cannot be written.
        """


class FileOutput:
    """Writes to a file, and leaves it open."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def write(self, row: bytes) -> None:
        """Write a row; a kill after the return does not lose the row."""
        try:
            while row:
                row = row[self._file.write(row) :]
            self._file.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error
        except OSError as error:
            raise OutputFailed(f"cannot write {self._name}: {error.strerror}") from error


@contextmanager
def appended(path: Path) -> Iterator[BinaryIO]:
    """Open a file to append to, without a buffer that a kill would lose.

    Raises:
        NothingToDo: the file cannot be written.
    """
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise NothingToDo(f"cannot write {path}: {error.strerror}") from error
    with file:
        yield file


def refuse_to_overwrite(path: Path) -> None:
    """Raise NothingToDo if a file is not empty: it may hold the work of hours."""
    try:
        is_there = path.is_file() and path.stat().st_size > 0
    except OSError as error:
        raise NothingToDo(f"cannot write {path}: {error.strerror}") from error
    if is_there:
        raise NothingToDo(f"{path} is not empty; remove it first, or give another --output")
