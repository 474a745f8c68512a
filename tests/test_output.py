"""Where rows go, and how an earlier run is gone on with."""

import os
from pathlib import Path

import pytest

from commands.files import NothingToDo
from commands.output import (
    FileOutput,
    OutputClosed,
    OutputFailed,
    appended,
    holds_rows,
    refuse_to_overwrite,
    resumed,
)
from commands.rows import Csv, JsonLines
from pipeline.errors import UndecodableImage
from pipeline.records import Rejection

BAD = Rejection(UndecodableImage("torn"))
ROWS = JsonLines(1)


def test_a_row_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    """A kill of the process would not take it away."""
    with appended(tmp_path / "out") as file:
        FileOutput(file, "out").write(b"a row\n")
        assert (tmp_path / "out").read_bytes() == b"a row\n"


def test_a_file_with_something_in_it_is_not_written_over(tmp_path: Path) -> None:
    """It may be the work of hours; an empty one is none's."""
    path = tmp_path / "out"
    refuse_to_overwrite(path)
    path.touch()
    refuse_to_overwrite(path)
    path.write_text("x")
    with pytest.raises(NothingToDo, match="go on with it by --resume, or remove it"):
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


@pytest.mark.parametrize("rows", [JsonLines(1), Csv(1)], ids=lambda rows: type(rows).__name__)
def test_a_torn_row_is_cut_off(tmp_path: Path, rows: JsonLines | Csv) -> None:
    """And the files of the others are known, however their names are spelt now."""
    path, whole = tmp_path / "out", rows.header + rows.row("a.jpg", BAD) + rows.row("./sub//b.jpg", BAD)
    assert resumed(path, rows) == set()
    for torn in (b"", rows.row("c.jpg", BAD)[:-1], rows.row("c.jpg", BAD)[:3]):
        path.write_bytes(whole + torn)
        assert resumed(path, rows) == {"a.jpg", "sub/b.jpg"}
        assert path.read_bytes() == whole
    path.write_bytes(rows.beginning[:5])
    assert resumed(path, rows) == set()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("text", [b"my diary", b"my diary\n", b'{"file": "a"}\n{"diary": 1}\n'])
def test_what_is_no_output_stays_as_it_is(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(text)
    with pytest.raises(NothingToDo, match="cannot go on with"):
        resumed(path, ROWS)
    assert path.read_bytes() == text


def test_an_output_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo, match="Is a directory"):
        resumed(tmp_path, ROWS)


def test_nothing_is_in_a_pipe(tmp_path: Path) -> None:
    """Rows go into one from the first on, as for `--output >(gzip >rows.gz)`; into a file where it is empty."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name, holds in (("pipe", False), ("empty", False), ("full", True)):
        if holds:
            (tmp_path / name).write_bytes(b"row")
        with appended(tmp_path / name) as file:
            assert holds_rows(file) is holds
            FileOutput(file, name).write(b"a row\n")
    assert os.read(reader, 100) == b"a row\n"
    os.close(reader)
