"""The tests of the code for CUDA, in this process: which passed, which failed, which were skipped."""

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import pytest

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting

CHOSEN: Final = "cuda and not slow"
"""The tests that are run, by their marks."""

FOLDER: Final = "tests"
DRY_FILES: Final = (
    "tests/pipeline/model/test_cuda.py",
    "tests/pipeline/model/test_cuda_faults.py",
    "tests/pipeline/model/test_device.py",
)
"""Enough of them for a trial: `make test` runs all of them on the CPU anyway."""

_SHOWN: Final = 30
"""Failures that are told one by one."""


class Outcomes:
    """Notes how each test ended; a plug-in of pytest's."""

    def __init__(self) -> None:
        self.ended = defaultdict[str, list[tuple[str, str]]](list)  # outcome -> names and reasons

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest for each phase of a test."""
        if report.when == "call" or report.outcome != "passed":
            self.ended[report.outcome].append((report.nodeid, _reason(report)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Called by pytest for each file. One that needs a package that is not here is left out, and told."""
        if report.failed:
            reason = _reason(report).rpartition("\n")[2]
            outcome = "files left out" if "ModuleNotFoundError" in reason else "failed"
            self.ended[outcome].append((report.nodeid, reason))


def passed(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Runs them.

    Raises:
        RuntimeError: not all that were found have passed, or none was found.
    """
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed here is none of theirs
    if not setting.dry:
        os.environ["FAIL_WITHOUT_CUDA"] = "1"
    outcomes = Outcomes()
    options = ["-q", "-p", "no:cacheprovider", "--durations=8", "--continue-on-collection-errors", "-m", CHOSEN]
    status = pytest.main([*options, *(DRY_FILES if setting.dry else [FOLDER])], plugins=[outcomes])
    counts = {outcome: len(tests) for outcome, tests in sorted(outcomes.ended.items())}
    others = {outcome: tests for outcome, tests in outcomes.ended.items() if outcome != "passed"}
    note = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    yield Figure(f"tests marked {CHOSEN} that passed", counts.get("passed", 0), "tests", note=note, details=others)
    failed = outcomes.ended["failed"]
    for name, reason in failed[:_SHOWN]:
        yield Missing(name, reason)
    if failed or not counts.get("passed"):
        raise RuntimeError(
            f"{len(failed)} tests failed, {counts.get('passed', 0)} passed; pytest's status is {int(status)}"
        )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped, or the end of what went wrong."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[-1])
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr or "").strip()[-600:]
