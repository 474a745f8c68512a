"""Tests of the report on the tests marked cuda."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.repository import ROOT

PROGRAM = """
import dataclasses, json, sys, time
from pathlib import Path
from benchmarks.gpu import cuda_tests
from benchmarks.gpu.part_setting import PartSetting
cuda_tests.TESTS_FOLDER, out = sys.argv[1:]
with open(out, "w") as file:
    try:
        for record in cuda_tests.passed(PartSetting(Path("."), time.monotonic() + 60, dry=False)):
            file.write(json.dumps(dataclasses.asdict(record)) + "\\n")
    except RuntimeError as error:
        file.write(json.dumps(str(error)) + "\\n")
"""


def told(folder: Path, **files: str) -> list[Any]:
    """Return the report on these test files. It is made in its own process, as pytest does not run inside pytest."""
    (folder / "tests").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda\n  slow\n")
    for name, text in files.items():
        (folder / "tests" / f"test_{name}.py").write_text(text)
    out = folder / "out"
    subprocess.run([sys.executable, "-c", PROGRAM, str(folder / "tests"), str(out)], cwd=ROOT, check=True)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_failures_are_told_one_by_one_and_fail_the_step(tmp_path: Path) -> None:
    """Each failed test is reported, and the step fails.

    Only tests with the mark `cuda` run, with FAIL_WITHOUT_CUDA=1.
    """
    text = """
import os, pytest
@pytest.mark.cuda
def test_strict():
    assert os.environ["FAIL_WITHOUT_CUDA"] == "1"
@pytest.mark.cuda
def test_wrong():
    assert 1 == 2
def test_of_the_cpu():
    raise RuntimeError
"""
    figure, failure, error = told(tmp_path, one=text)
    assert (figure["value"], figure["note"]) == (1, "1 failed, 1 passed")
    assert failure["what"].endswith("test_wrong")
    assert "assert 1 == 2" in failure["reason"]
    assert error.startswith("1 tests failed, 1 passed")


def test_a_file_that_needs_a_package_that_is_not_here_is_left_out(tmp_path: Path) -> None:
    """A test file whose imports fail is left out: a GPU machine may have only the packages that a service needs."""
    works = "import pytest\n@pytest.mark.cuda\ndef test_works(): pass\n"
    (figure,) = told(tmp_path, one=works, other="import no_such_package")
    assert figure["note"] == "1 files left out, 1 passed"
    ((_, reason),) = figure["details"]["files left out"]
    assert reason == "E   ModuleNotFoundError: No module named 'no_such_package'"


def test_a_file_that_is_broken_fails_the_step(tmp_path: Path) -> None:
    works = "import pytest\n@pytest.mark.cuda\ndef test_works(): pass\n"
    *_, error = told(tmp_path, one=works, other="raise RuntimeError('broken')")
    assert error.startswith("1 tests failed, 1 passed")


def test_no_test_at_all_fails_the_step(tmp_path: Path) -> None:
    *_, error = told(tmp_path, one="def test_of_the_cpu(): pass\n")
    assert error.startswith("0 tests failed, 0 passed")
