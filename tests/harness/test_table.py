"""Tests of the tables of results."""

from harness import table


def test_a_cell_cannot_break_the_markdown_table() -> None:
    assert table.markdown(["", "a"], [["x|y", "z"]]) == "|  | a |\n| --- | --- |\n| x\\|y | z |\n"


def test_the_text_table_folds_long_cells() -> None:
    first, second, *_ = table.text(["", "a"], [["word " * 10, "z"]]).split("\n\n")
    assert first.split() == ["a"]
    assert len(second.splitlines()) == 2
