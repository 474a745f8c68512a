"""Tests of the destination of rows."""

import os
from pathlib import Path

import pytest

from commands.files import NothingToDo
from commands.output import (
    FileOutput,
    OutputClosed,
    OutputFailed,
    appended,
    refuse_to_overwrite,
)


def test_a_row_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    """A row is in the file as soon as it is written, so a kill of the process does not lose it."""
    with appended(tmp_path / "out") as file:
        FileOutput(file, "out").write(b"a row\n")
        assert (tmp_path / "out").read_bytes() == b"a row\n"


def test_a_file_with_something_in_it_is_not_written_over(tmp_path: Path) -> None:
    """A file with content is not overwritten, as it may be the work of hours; an empty file is."""
    path = tmp_path / "out"
    refuse_to_overwrite(path)
    path.touch()
    refuse_to_overwrite(path)
    path.write_text("x")
    with pytest.raises(NothingToDo, match="is not empty; remove it first"):
        refuse_to_overwrite(path)


def test_where_nobody_reads_the_rows_that_is_no_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe, pytest.raises(OutputClosed):
        FileOutput(pipe, "a pipe").write(b"a row\n")


def test_a_full_disk_is_named() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OutputFailed, match="cannot write out: No space"):
        FileOutput(full, "out").write(b"a row\n")


def test_an_output_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="Is a directory"), appended(tmp_path):
        pass


def test_an_output_may_be_a_pipe(tmp_path: Path) -> None:
    """The output may be a pipe, as in `--output >(gzip >rows.gz)`; it gets each row at once."""
    os.mkfifo(tmp_path / "pipe")
    refuse_to_overwrite(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with appended(tmp_path / "pipe") as file:
        FileOutput(file, "pipe").write(b"a row\n")
    assert os.read(reader, 100) == b"a row\n"
    os.close(reader)
