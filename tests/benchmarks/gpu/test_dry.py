"""Test of the whole run, shortened, on the CPU: `make gpu DRY=1`."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import gpu_steps as plan
from benchmarks.gpu.results import Results
from harness.repository import ROOT


@pytest.mark.slow
def test_every_step_of_a_dry_run_comes_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(tmp_path), "--budget-s", "600"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = Results(tmp_path, 0.0).read()
    assert {record["step"] for record in records if "value" in record} == set(plan.STEP_NAMES)
    missing = [
        record for record in records if "reason" in record and record["step"] != "facts"
    ]  # no GPU, no facts of one
    assert missing == []
    assert "# Darkroom on a GPU" in (tmp_path / "gpu.md").read_text()
