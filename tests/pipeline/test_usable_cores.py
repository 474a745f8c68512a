"""Tests of the number of cores that a process may use, with the files of both versions of cgroups."""

from pathlib import Path

import pytest

from pipeline.usable_cores import usable_cores

CORES = 8


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process eight cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(CORES))


def test_without_a_container_all_cores_count(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("3200000 100000", 8), ("", 8)],
)
def test_the_quota_of_a_container_counts(tmp_path: Path, limit: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("400000", 4), ("50000", 1)])
def test_the_older_files_are_read_too(tmp_path: Path, quota: str, cores: int) -> None:
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == cores
