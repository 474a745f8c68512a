"""Tests of the table of a run: its figures, and their shares of the measured ceilings."""

from pathlib import Path

import pytest

from benchmarks.gpu.gpu_page import ceilings, main, page, rows
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.results import Record, Results


def recorded(folder: Path, *records: Figure | Missing | Record) -> list[Record]:
    results = Results(folder, 0.0)
    for record in records:
        results.add("step", record)
    return results.read()


def test_a_rate_is_a_share_of_the_best_of_its_ceiling(tmp_path: Path) -> None:
    records = recorded(
        tmp_path,
        Figure("one core", 100, "images/s", sets="decode"),
        Figure("all cores", 400, "images/s", sets="decode"),
        Figure("service", 100, "images/s", of=("decode",)),
    )
    assert ceilings(records) == {"decode": 400}
    assert rows(records)[-1] == ["step", "service", "100 images/s", "0.25 of decode", ""]


def test_of_several_ceilings_the_lowest_counts(tmp_path: Path) -> None:
    records = recorded(
        tmp_path,
        Figure("cores", 400, "images/s", sets="decode"),
        Figure("GPU", 200, "images/s", sets="model"),
        Figure("service", 100, "images/s", of=("decode", "model", "not measured")),
    )
    assert rows(records)[-1][3] == "0.50 of model"


def test_of_times_the_shortest_is_the_ceiling(tmp_path: Path) -> None:
    records = recorded(
        tmp_path,
        Figure("quick", 2, "ms", sets="launch"),
        Figure("slow", 8, "ms", sets="launch", of=("launch",)),
    )
    assert rows(records)[-1][3] == "0.25 of launch"


def test_without_a_ceiling_there_is_no_share(tmp_path: Path) -> None:
    assert rows(recorded(tmp_path, Figure("service", 100, "images/s", of=("decode",))))[0][3] == ""


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (Missing("nvJPEG", "RuntimeError: no such\nmore"), "RuntimeError: no such"),
        ({"left_out": True}, "left out: no time left"),
        ({"status": 130, "seconds": 60.2, "cut_off": True}, "cut off after 60 s"),
        ({"status": 1, "seconds": 2.0, "cut_off": False}, "ended with status 1"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, record: Missing | Record, told: str) -> None:
    assert [row[-1] for row in rows(recorded(tmp_path, record))] == [told]


def test_a_step_that_came_to_its_end_has_no_row(tmp_path: Path) -> None:
    assert rows(recorded(tmp_path, {"status": 0, "seconds": 2.0, "cut_off": False})) == []


def test_figures_keep_four_digits_and_show_no_exponent(tmp_path: Path) -> None:
    records = recorded(tmp_path, Figure("much", 1234567.8, "images/s"), Figure("little", 0.000123456, "ms"))
    assert [row[2] for row in rows(records)] == ["1,235,000 images/s", "0.0001235 ms"]


def test_the_page_says_what_the_figures_belong_to(tmp_path: Path) -> None:
    text = page(
        {"gpu": "NVIDIA H100", "date": "2026-11-26", "litserve": None}, recorded(tmp_path, Figure("a|b", 1, "s"))
    )
    assert "- gpu: NVIDIA H100" in text
    assert "a\\|b" in text
    assert "litserve" not in text


def test_a_line_that_was_cut_off_does_not_hide_the_others(tmp_path: Path) -> None:
    """A half-written last record hides no other record: the machine may be taken away during a write."""
    recorded(tmp_path, Figure("whole", 1, "s"))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"step": "st')
    assert [record["what"] for record in Results(tmp_path, 0.0).read()] == ["whole"]


def test_two_runs_of_one_machine_make_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of one machine make one page, on which a figure of one run may be the ceiling of the other."""
    for name, figure in (
        ("one", Figure("all cores", 400, "images/s", sets="decode")),
        ("two", Figure("service", 100, "images/s", of=("decode",))),
    ):
        recorded(tmp_path / name, {"about": {"gpu": "NVIDIA H100", "command": f"run {name}"}}, figure)
    assert main([str(tmp_path / name) for name in ("one", "two")]) == 0
    printed = capsys.readouterr().out
    assert "- command: run one; run two" in printed
    assert "0.25 of decode" in printed
