"""Where rows go: a file, also one that an earlier run has begun, or what stands for standard output."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from commands.files import NothingToDo, key_of
from commands.rows import NotARow, ResumableRows


class OutputClosed(Exception):
    """Nobody reads the rows any more."""


class OutputFailed(Exception):
    """The rows cannot be written; the message says why."""


class Output(Protocol):
    """What takes rows."""

    def write(self, row: bytes) -> None:
        """Takes a whole row, and keeps nothing of it back.

        Raises:
            OutputClosed: nobody reads it.
            OutputFailed: it cannot be written.
        """


class FileOutput:
    """Writes to a file, and leaves it open."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def write(self, row: bytes) -> None:
        """Takes a row: once this has returned, a kill does not lose it."""
        try:
            while row:
                row = row[self._file.write(row) :]
            self._file.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error
        except OSError as error:
            raise OutputFailed(f"cannot write {self._name}: {error.strerror}") from error


def holds_rows(file: BinaryIO) -> bool:
    """Whether something is in a file that was opened to be written at its end; in a pipe or a device nothing is."""
    return file.seekable() and file.tell() > 0


@contextmanager
def appended(path: Path) -> Iterator[BinaryIO]:
    """A file that is written at its end, without a buffer that a kill would lose.

    Raises:
        NothingToDo: it cannot be written.
    """
    try:
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise NothingToDo(f"cannot write {path}: {error.strerror}") from error
    with file:
        yield file


def refuse_to_overwrite(path: Path) -> None:
    """Raises NothingToDo where a file holds something, which may be the work of hours."""
    try:
        is_there = path.is_file() and path.stat().st_size > 0
    except OSError as error:
        raise NothingToDo(f"cannot write {path}: {error.strerror}") from error
    if is_there:
        raise NothingToDo(f"{path} has something in it; go on with it by --resume, or remove it first")


def resumed(path: Path, rows: ResumableRows) -> set[str]:
    """Prepares an output to be gone on with, and says which files it has; a row that a kill has cut short is removed.

    Returns:
        Their keys, by `key_of`; none where there is no such output yet.

    Raises:
        NothingToDo: something else is in it, and stays as it is; or it cannot be read.
    """
    try:
        if not path.exists():
            return set()
        if not path.is_file() and not path.is_dir():  # a pipe or a device has no beginning
            raise NotARow("it is no regular file")
        with path.open("rb") as output:
            complete = rows.complete_bytes(output)
            output.seek(0)
            done = {key_of(file) for file in rows.files(_lines(output, complete))}
            output.seek(complete)
            rest = output.read(len(rows.beginning))
            if not complete and not rows.beginning.startswith(rest):
                raise NotARow("its first line is no row")
        os.truncate(path, complete)
    except NotARow as error:
        raise NothingToDo(f"cannot go on with {path}: {error}") from error
    except OSError as error:
        raise NothingToDo(f"cannot go on with {path}: {error.strerror}") from error
    return done


def _lines(output: BinaryIO, size: int) -> Iterator[bytes]:
    """The lines of the first so many bytes."""
    for line in output:
        size -= len(line)
        if size < 0:
            return
        yield line
