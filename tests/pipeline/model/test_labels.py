"""Tests of the class names: from their file, or from the weights."""

from pathlib import Path

import pytest
from torchvision.models import MobileNet_V2_Weights

from pipeline.errors import InvalidModel
from pipeline.model.labels import read_labels

FIVE = ("a", "b", "c", "d é", "e")


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=repr)
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"], ids=repr)
def test_labels_come_from_their_file(begin: bytes, line_end: str, end: str, tmp_path: Path) -> None:
    """A file of labels has one a line, in UTF-8, as any editor saves it."""
    path = tmp_path / "labels.txt"
    path.write_bytes(begin + ("\n".join(FIVE) + end).replace("\n", line_end).encode())
    assert read_labels(str(path), 5) == FIVE


def test_only_ends_of_lines_part_labels(tmp_path: Path) -> None:
    """Only line ends separate labels, not other Unicode separators; two classes may have the same name."""
    path = tmp_path / "labels.txt"
    path.write_text("a\u2028b\na\u2028b\n\x0bc\x0cd", encoding="utf-8")
    assert read_labels(str(path), 3) == ("a\u2028b", "a\u2028b", "c\x0cd")


@pytest.mark.parametrize("lines", [0, 4, 6])
def test_labels_of_another_number_are_refused(lines: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("label\n" * lines)
    with pytest.raises(InvalidModel, match=rf"labels\.txt has {lines} lines; the model has 5 classes$"):
        read_labels(str(path), 5)


@pytest.mark.parametrize("content", [None, b"\xff\xfea\0", b"\xe9"], ids=["missing", "UTF-16", "Latin-1"])
def test_labels_that_cannot_be_read_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"^labels: .*labels\.txt cannot be read: "):
        read_labels(str(path), 1)


def test_without_a_file_as_many_names_as_the_weights_have_are_theirs() -> None:
    known = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    assert read_labels(None, 1000, known)[281] == "tabby"
    assert read_labels(None, 2, known) == read_labels(None, 2) == ("class 0", "class 1")
