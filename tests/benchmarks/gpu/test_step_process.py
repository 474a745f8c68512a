"""Tests of a step of a run on a GPU: its time limit, and the processes that it leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu.step_process import run_step
from harness import marked_program


def runs(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_step_that_overruns_is_ended_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that runs too long is killed with all processes that it started.

    This includes those that left its session and ignore Ctrl-C, as a service's do.
    """
    monkeypatch.setattr(marked_program, "_HELPERS_END_WITHIN_S", 0.1)
    log = tmp_path / "log"
    started = "trap '' INT; setsid sleep 1000 & echo $!; sleep 1000 & echo $!; exec sleep 1000"
    ended = run_step(["bash", "-c", started], 0.5, log, {}, grace_s=0.2)
    pids = [int(line) for line in log.read_text().split()]
    assert ended.cut_off
    assert ended.failed
    assert ended.status == -signal.SIGKILL
    assert ended.killed == 3
    assert len(pids) == 2
    assert not any(map(runs, pids))


def test_a_step_whose_time_is_up_may_end_in_order(tmp_path: Path) -> None:
    """A step whose time is up gets SIGINT first, and then some time to end."""
    log = tmp_path / "log"
    stops = "trap 'echo stopped; exit 3' INT; while :; do sleep 0.01; done"
    ended = run_step(["bash", "-c", stops], 0.3, log, {})
    assert (ended.status, ended.cut_off) == (3, True)
    assert log.read_text() == "stopped\n"


def test_what_a_step_leaves_is_ended_also_where_it_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marked_program, "_HELPERS_END_WITHIN_S", 0.1)
    log = tmp_path / "log"
    ended = run_step(["bash", "-c", "setsid sleep 1000 & echo $!"], 30, log, {})
    assert (ended.status, ended.cut_off, ended.killed) == (0, False, 1)
    assert not runs(int(log.read_text()))


def test_no_other_process_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:  # noqa: S607  the system's own program
        run_step(["true"], 30, tmp_path / "log", {})
        assert other.poll() is None
        other.kill()


def test_a_step_runs_in_the_project_with_the_environment_given(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "import os, benchmarks; print(os.environ['TOLD'], os.environ['HOME'])"
    ended = run_step([sys.executable, "-c", program], 30, log, {"TOLD": "so"})
    assert ended.status == 0
    assert not ended.failed
    assert log.read_text().split() == ["so", os.environ["HOME"]]
