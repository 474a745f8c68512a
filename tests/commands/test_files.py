"""Tests of the files that arguments name, and of reading them."""

import io
import os
from pathlib import Path

import pytest

from commands.files import NothingToDo, listed, read, shown
from pipeline.errors import ImageTooLarge, UnreadableFile

FORMATS = ("JPEG", "PNG")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with a tree of empty files."""
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.jpeg", ".git/d.jpg", "sub/deep/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str, stdin: bytes = b"") -> list[str]:
    return listed(paths, FORMATS, io.BytesIO(stdin))


@pytest.mark.usefixtures("folder")
def test_of_a_folder_images_are_taken_sorted_and_nothing_hidden() -> None:
    assert names(".") == ["./a.PNG", "./b.jpg", "./sub/c.jpeg", "./sub/deep/e.png"]


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_named_is_taken_whatever_it_is_called() -> None:
    assert names("notes.txt", "sub") == ["notes.txt", "sub/c.jpeg", "sub/deep/e.png"]


@pytest.mark.usefixtures("folder")
def test_each_file_is_taken_once_where_it_comes_first() -> None:
    """A file is labelled once, at its first place in the order, however its name is spelt."""
    assert names("b.jpg", "./b.jpg", ".") == ["b.jpg", "./a.PNG", "./sub/c.jpeg", "./sub/deep/e.png"]
    assert names("sub//./c.jpeg", "sub/c.jpeg") == ["sub//./c.jpeg"]


def test_links_that_go_round_are_not_followed(folder: Path) -> None:
    """A link to a folder above it is not followed; a link to a file counts as a file."""
    (folder / "sub/round").symlink_to(folder)
    (folder / "sub/link.jpg").symlink_to(folder / "b.jpg")
    assert names("sub") == ["sub/c.jpeg", "sub/deep/e.png", "sub/link.jpg"]


@pytest.mark.usefixtures("folder")
def test_names_come_from_standard_input() -> None:
    """Standard input holds one name a line, also names that are not valid text; empty lines are ignored."""
    assert names("-", "b.jpg", stdin=b"sub/c.jpeg\n\nodd\xff.jpg\nb.jpg") == ["sub/c.jpeg", "odd\udcff.jpg", "b.jpg"]


def test_names_may_come_from_windows(folder: Path) -> None:
    """Lists of names from Windows are read: the byte order mark and carriage returns at line ends are dropped.

    A carriage return stays if a file's name ends with one.
    """
    (folder / "odd\r").touch()
    text = b"\xef\xbb\xbfb.jpg\r\n\r\nodd\r\nsub/c.jpeg\r\ngone.jpg\r\n"
    assert names("-", stdin=text) == ["b.jpg", "odd\r", "sub/c.jpeg", "gone.jpg"]


def test_a_standard_input_that_cannot_be_read_is_told() -> None:
    with (
        open(os.open("/dev/null", os.O_WRONLY), "rb") as closed,
        pytest.raises(NothingToDo, match="cannot read names from the standard input: Bad file descriptor"),
    ):
        listed(["-"], FORMATS, closed)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["nowhere", "b.jpg", "too\n"], r"no such file or folder: nowhere, too\\n"),
        (["empty"], r"no file in empty ends in \.jpg"),
        (["-"], "no names of files on the standard input"),
    ],
)
def test_where_there_is_nothing_to_do_it_says_why(folder: Path, paths: list[str], says: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(NothingToDo, match=says):
        names(*paths)


def test_a_file_is_read_up_to_the_limit(folder: Path) -> None:
    (folder / "b.jpg").write_bytes(b"12345")
    assert read("b.jpg", 5) == b"12345"
    with pytest.raises(ImageTooLarge, match="has 5 bytes; the limit is 4"):
        read("b.jpg", 4)


def test_what_is_no_regular_file_is_not_waited_for(folder: Path) -> None:
    """A pipe or a folder is reported as unreadable; reading a pipe without a writer would never end."""
    os.mkfifo(folder / "pipe.jpg")
    for name, says in (("pipe.jpg", "not a regular file"), ("sub", "Is a directory")):
        with pytest.raises(UnreadableFile, match=says):
            read(name, 5)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "says"), [("gone.jpg", "No such file"), ("a\0b.jpg", "zero byte in its name")])
def test_a_file_that_cannot_be_read_says_why(name: str, says: str) -> None:
    with pytest.raises(UnreadableFile, match=says):
        read(name, 5)


def test_names_for_people_move_no_cursor() -> None:
    assert shown("a\n\x1b[2Jé\udcff.jpg") == r"a\n\x1b[2Jé\udcff.jpg"
