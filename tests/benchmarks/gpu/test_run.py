"""Tests of the run on a GPU as a whole: its steps, its time budget and its results."""

import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import gpu_steps as plan
from benchmarks.gpu.gpu_steps import GpuStep
from benchmarks.gpu.part import PARTS, measure_of
from benchmarks.gpu.results import Results
from benchmarks.gpu.step_process import GRACE_S, run_step
from harness.circumstances import circumstances

Run = Callable[..., int]

_FIGURE = '{"step": "%s", "what": "speed", "value": 2.5, "unit": "images/s"}'


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that the pages of a real run are written to."""
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def steps_are(monkeypatch: pytest.MonkeyPatch, scripts: dict[str, str], limit_s: float = 30.0) -> None:
    """Replace the steps by shell scripts of these names; each gets the path of the results file as `$1`."""

    def command_of(step: GpuStep, _limit_s: float, results: Any, _options: Any) -> list[str]:
        return ["bash", "-c", scripts[step.name], "bash", str(results.folder / "results.jsonl")]

    monkeypatch.setattr(plan, "STEPS", tuple(GpuStep(name, limit_s, ("facts",), "") for name in scripts))
    monkeypatch.setattr(command, "command_of", command_of)
    monkeypatch.setattr(plan, "MIN_STEP_S", 0.1)


def records_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("results")
def test_without_a_gpu_it_says_so_in_one_line_and_stops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    steps_are(monkeypatch, {"one": "exit 1"})
    assert command.main([]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "torch finds no GPU" in err


@pytest.mark.usefixtures("results")
def test_steps_that_fail_or_overrun_leave_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step that fails or runs too long does not stop the others.

    The end of its log is printed, and the exit status is 1.
    """
    scripts = {
        "breaks": "echo a reason; exit 7",
        "overruns": "trap 'exit 130' INT; while :; do sleep 0.01; done",
        "works": f"echo '{_FIGURE % 'works'}' >> $1",
    }
    steps_are(monkeypatch, scripts, limit_s=0.5)
    out = tmp_path / "out"
    assert command.main(["--dry", "--out", str(out)]) == 1
    table, told = capsys.readouterr()
    assert "breaks: 0 s, status 7" in told
    assert "a reason" in told
    assert "overruns: 0 s, cut off" in told or "overruns: 1 s, cut off" in told
    assert "not whole: breaks, overruns" in told
    assert "2.5 images/s" in table
    ends = {record["step"]: record for record in records_of(out) if "seconds" in record}
    assert [ends[name]["status"] for name in scripts] == [7, 130, 0]
    assert [ends[name]["cut_off"] for name in scripts] == [False, True, False]


@pytest.mark.usefixtures("results")
def test_what_has_no_time_left_is_left_out_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step without enough time left is skipped and recorded; the time to end a step is part of the budget."""
    steps_are(monkeypatch, {"first": "exit 0", "second": "exit 0"})
    monkeypatch.setattr(command, "GRACE_S", 5.0)
    out = tmp_path / "out"
    assert command.main(["--dry", "--out", str(out), "--budget-s", "5"]) == 1
    assert [record["step"] for record in records_of(out) if record.get("left_out")] == ["first", "second"]


@pytest.mark.usefixtures("results")
def test_no_step_may_take_more_than_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps_are(monkeypatch, {"long": "exit 0"}, limit_s=1000.0)
    limits = list[float]()

    def noted(command: Any, limit_s: float, *others: Any) -> Any:
        limits.append(limit_s)
        return run_step(command, limit_s, *others)

    monkeypatch.setattr("benchmarks.gpu.__main__.run_step", noted)
    assert command.main(["--dry", "--out", str(tmp_path / "out"), "--budget-s", "40"]) == 0
    assert 20 < limits[0] <= 40 - GRACE_S


def test_a_dry_run_leaves_no_page_among_the_results(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run writes into a temporary folder, because its figures are not those of a GPU."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    steps_are(monkeypatch, {"works": f"echo '{_FIGURE % 'works'}' >> $1"})
    folder = command.default_folder(None, dry=True)
    monkeypatch.setattr(command, "default_folder", lambda *_, **__: folder)
    assert command.main(["--dry"]) == 0
    assert folder.is_relative_to(tempfile.gettempdir())
    assert "2.5 images/s" in (folder / "gpu.md").read_text()
    assert not results.exists()


def test_a_real_run_leaves_its_page_among_the_results(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real run puts its page among the results, with the GPU, the command and the commit above the table."""
    steps_are(monkeypatch, {"works": f"echo '{_FIGURE % 'works'}' >> $1"})
    monkeypatch.setattr(command, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    assert command.main(["--commit", "abc1234"]) == 0
    page = (results / "gpu.md").read_text()
    (folder,) = (results / "gpu").iterdir()
    assert folder.name.endswith("-NVIDIA-H100-80GB-HBM3")
    assert (folder / "gpu.md").read_text() == page
    for said in (
        "NVIDIA H100 80GB HBM3",
        "python -m benchmarks.gpu --commit abc1234",
        "darkroom: abc1234",
        "2.5 images/s",
    ):
        assert said in page


@pytest.mark.usefixtures("results")
def test_the_page_is_there_before_the_last_step_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is written after each step, because the machine may be taken away before the last one ends."""
    works, looks = f"echo '{_FIGURE % 'works'}' >> $1", 'cp "$(dirname $1)/gpu.md" "$(dirname $1)/seen.md"'
    steps_are(monkeypatch, {"works": works, "looks": looks})
    assert command.main(["--dry", "--out", str(tmp_path / "out")]) == 0
    assert "2.5 images/s" in (tmp_path / "out" / "seen.md").read_text()


def test_a_part_of_a_run_does_not_replace_the_page_of_a_whole_one(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_are(monkeypatch, {"facts": "exit 0"})
    monkeypatch.setattr(command, "gpu_name", lambda: "NVIDIA H100 80GB HBM3")
    assert command.main(["--only", "facts", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "gpu.md").exists()
    assert not results.exists()


def test_steps_may_be_chosen_and_keep_their_order() -> None:
    assert [step.name for step in plan.chosen(["models", "facts"])] == ["facts", "models"]
    assert plan.chosen([]) == list(plan.STEPS)


def test_every_part_of_the_plan_is_there() -> None:
    parts = [part for step in plan.STEPS for part in step.parts]
    assert sorted(parts) == sorted(PARTS)
    assert all(callable(measure_of(part)) for part in parts)


def test_the_command_of_a_step_is_one_that_its_process_understands(tmp_path: Path) -> None:
    """The command line of a step passes on its parts, time limit, cases and folder."""
    options = command.parsed(["--dry", "--case", "8 replicas"])
    line = command.command_of(plan.STEPS[0], 12.5, Results(tmp_path, 1.0), options)
    assert line[:4] == [sys.executable, "-m", "benchmarks.gpu.part", "facts"]
    assert {"--limit-s", "12.5", "--case", "8 replicas", "--dry", str(tmp_path)} <= set(line)


def test_without_git_the_version_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without git the page names only the version, as on a machine that has nothing but Python."""
    monkeypatch.setenv("PATH", "")
    assert circumstances("benchmarks.gpu", [])["darkroom"] == version("darkroom")
