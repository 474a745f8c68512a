"""Tests of the rows that are written for a file."""

import csv
import io
import json

from commands.rows import Csv, JsonLines, Table
from pipeline.errors import UndecodableImage
from pipeline.model.classify import Classification, Classify
from pipeline.records import Prediction, Rejection

GOOD = Prediction(Classification(("cat", 'a "tabby", so'), (2, 1), (0.75, 0.25)))
BAD = Rejection(UndecodableImage("torn"))
ODD = "odd\udcff.jpg"  # Python's form of a name that is not valid text


def test_a_line_of_json_is_what_the_service_answers() -> None:
    """A row of JSON has the form of the service's answer, with no more classes than requested."""
    row = json.loads(JsonLines({"top_k": 1}).row("é.jpg", GOOD))
    assert row == {"file": "é.jpg", "predictions": [{"label": "cat", "index": 2, "score": 0.75}]}
    error = json.loads(JsonLines({"top_k": 1}).row("b.jpg", BAD))["error"]
    assert error == {"type": "urn:darkroom:undecodable-image", "title": "Undecodable image", "detail": "torn"}


def test_a_row_of_csv_has_a_cell_a_class_and_one_for_the_error() -> None:
    """A row of CSV has cells for each class and one for the error.

    Cells are empty where the model has fewer classes.
    """
    head = Classify(("cat", "dog"), 3)
    rows = Csv({"top_k": 3}, head.columns(top_k=3))
    text = (rows.header + rows.row("a,b.jpg", GOOD) + rows.row("b.jpg", BAD)).decode()
    header, good, bad = csv.reader(io.StringIO(text))
    assert header == ["file", "label_1", "score_1", "label_2", "score_2", "label_3", "score_3", "error"]
    assert good == ["a,b.jpg", "cat", "0.75", 'a "tabby", so', "0.25", "", "", ""]
    assert bad == ["b.jpg", *[""] * 6, "Undecodable image: torn"]


def test_lines_for_people_have_a_class_each() -> None:
    """The table for people has one line for each class; a file name wider than its column has its own line."""
    table = Table({"top_k": 2}, ["a.jpg", "bb.jpg"])
    assert table.row("a.jpg", GOOD).decode().splitlines() == ["a.jpg     75.0%  cat", '          25.0%  a "tabby", so']
    assert table.row("bb.jpg", BAD).decode().splitlines() == ["bb.jpg        -  Undecodable image: torn"]
    assert table.row("longer.jpg", BAD).decode().splitlines()[0] == "longer.jpg"
