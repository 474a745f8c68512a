"""Tests of parts that fail, and of cases that no time is left for."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu import part
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.gpu.results import Results


def setting(folder: Path, left_s: float = 100.0) -> PartSetting:
    return PartSetting(folder, time.monotonic() + left_s, dry=True)


def inverse(case: int) -> Figure:
    return Figure(f"1 / {case}", 1 / case, "images/s")


def test_a_case_that_fails_is_told_and_the_next_one_runs(tmp_path: Path) -> None:
    first, second, third = setting(tmp_path).each([1, 0, 2], inverse)
    assert isinstance(first, Figure)
    assert second == Missing("0", "ZeroDivisionError: division by zero")
    assert isinstance(third, Figure)


def test_figures_that_a_case_gave_before_it_failed_are_kept(tmp_path: Path) -> None:
    def some(case: str) -> Iterator[Figure]:
        yield Figure(case, 1, "s")
        raise RuntimeError(case)

    assert [type(each) for each in setting(tmp_path).each(["a"], some)] == [Figure, Missing]


def test_cases_without_time_are_told(tmp_path: Path) -> None:
    assert list(setting(tmp_path, left_s=1.0).each([1], inverse, needs_s=2.0)) == [
        Missing("1", "left out: no time left")
    ]


def test_of_a_long_message_both_ends_are_kept(tmp_path: Path) -> None:
    def fails(_: str) -> Figure:
        raise RuntimeError("begins " + "x" * 5000 + " the cause")

    (missing,) = setting(tmp_path).each(["a"], fails)
    assert isinstance(missing, Missing)
    assert missing.reason.startswith("RuntimeError: begins")
    assert missing.reason.endswith("the cause")
    assert len(missing.reason) < 1000


def test_a_part_that_fails_leaves_the_next_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that fails does not stop the next one. Figures are written as they come, and the exit status is 1."""

    def broken(_: PartSetting) -> Iterator[Figure]:
        yield Figure("before", 1, "s")
        raise RuntimeError("broken")

    def whole(_: PartSetting) -> Iterator[Figure]:
        yield Figure("after", 1, "s")

    monkeypatch.setattr(part, "measure_of", {"copies": broken, "waiting": whole}.__getitem__)
    assert part.main(["step", "copies", "waiting", "--out", str(tmp_path), "--limit-s", "9"]) == 1
    records = Results(tmp_path, 0.0).read()
    assert [record["what"] for record in records] == ["before", "copies", "after"]
    assert records[1]["reason"] == "RuntimeError: broken"
