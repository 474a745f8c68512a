"""What is written of a file."""

import csv
import io
import json

import pytest

from commands.rows import Csv, JsonLines, NotARow, Table
from pipeline.errors import UndecodableImage
from pipeline.records import Prediction, Rejection

GOOD = Prediction(("cat", 'a "tabby", so'), (2, 1), (0.75, 0.25))
BAD = Rejection(UndecodableImage("torn"))
ODD = "odd\udcff.jpg"  # as Python has names that are no text


def test_a_line_of_json_is_what_the_service_answers() -> None:
    """No more classes than were asked for."""
    row = json.loads(JsonLines(1).row("é.jpg", GOOD))
    assert row == {"file": "é.jpg", "predictions": [{"label": "cat", "index": 2, "score": 0.75}]}
    error = json.loads(JsonLines(1).row("b.jpg", BAD))["error"]
    assert error == {"type": "urn:darkroom:undecodable-image", "title": "Undecodable image", "detail": "torn"}


def test_a_row_of_csv_has_a_cell_a_class_and_one_for_the_error() -> None:
    """Empty where the model has no more classes."""
    rows = Csv(3)
    text = (rows.header + rows.row("a,b.jpg", GOOD) + rows.row("b.jpg", BAD)).decode()
    header, good, bad = csv.reader(io.StringIO(text))
    assert header == ["file", "label_1", "score_1", "label_2", "score_2", "label_3", "score_3", "error"]
    assert good == ["a,b.jpg", "cat", "0.75", 'a "tabby", so', "0.25", "", "", ""]
    assert bad == ["b.jpg", *[""] * 6, "Undecodable image: torn"]


@pytest.mark.parametrize("rows", [JsonLines(2), Csv(2)], ids=lambda rows: type(rows).__name__)
@pytest.mark.parametrize("cut", range(1, 12))
def test_what_a_kill_has_left_of_a_row_is_found(rows: JsonLines | Csv, cut: int) -> None:
    """Names with line ends, quotes and bytes that are no text come back as they were."""
    names = ["a.jpg", 'b"\n.jpg', ODD]
    whole = rows.header + b"".join(rows.row(name, GOOD) for name in names)
    torn = whole + rows.row("c\n.jpg", GOOD)[:-cut]
    assert rows.complete_bytes(io.BytesIO(torn)) == len(whole)
    assert list(rows.files(io.BytesIO(whole))) == names


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (JsonLines(1), b"hello\n"),
        (JsonLines(1), b"[1]\n"),
        (JsonLines(1), b'{"name": "a"}\n'),
        (Csv(1), b"file,label\n"),
        (Csv(1), Csv(1).header + b"a.jpg,cat\n"),
    ],
)
def test_what_is_no_row_is_told(rows: JsonLines | Csv, text: bytes) -> None:
    with pytest.raises(NotARow):
        list(rows.files(io.BytesIO(text)))


def test_lines_for_people_have_a_class_each() -> None:
    """A name that is too long for its column stands above."""
    table = Table(2, ["a.jpg", "bb.jpg"])
    assert table.row("a.jpg", GOOD).decode().splitlines() == ["a.jpg     75.0%  cat", '          25.0%  a "tabby", so']
    assert table.row("bb.jpg", BAD).decode().splitlines() == ["bb.jpg        -  Undecodable image: torn"]
    assert table.row("longer.jpg", BAD).decode().splitlines()[0] == "longer.jpg"
