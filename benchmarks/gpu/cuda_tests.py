"""Runs the tests of the CUDA code; counts passed, failed and skipped ones."""

import os
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

import pytest

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting

MARK_EXPRESSION: Final = "cuda and not slow"
"""Marks that select the tests."""

TESTS_FOLDER: Final = "tests"
DRY_FILES: Final = (
    "tests/pipeline/model/test_cuda.py",
    "tests/pipeline/model/test_cuda_faults.py",
    "tests/pipeline/model/test_device.py",
)
"""Test files of a dry run: `make test` runs all of them on the CPU anyway."""

_CORES_PER_PROCESS: Final = 3
"""Cores for each of the processes that run tests side by side, where pytest-xdist is installed."""

_MAX_SHOWN_FAILURES: Final = 30
"""Limit on failures that are reported one by one."""


class Outcomes:
    """Plug-in for pytest that records the outcome of each test."""

    def __init__(self) -> None:
        self.ended = defaultdict[str, list[tuple[str, str]]](list)  # outcome -> names and reasons

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a phase of a test; called by pytest."""
        if report.when == "call" or report.outcome != "passed":
            self.ended[report.outcome].append((report.nodeid, _reason(report)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that is skipped for a missing package; called by pytest for each file."""
        if report.failed:
            reason = _reason(report).rpartition("\n")[2]
            outcome = "files left out" if "ModuleNotFoundError" in reason else "failed"
            self.ended[outcome].append((report.nodeid, reason))


def passed(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Run the tests.

    Raises:
        RuntimeError: a test has failed, or none was found.
    """
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the tests need no other installed plug-ins
    if not setting.dry:
        os.environ["FAIL_WITHOUT_CUDA"] = "1"
    outcomes = Outcomes()
    options = ["-q", "-p", "no:cacheprovider", "--durations=8", "--continue-on-collection-errors"]
    options += ["-m", MARK_EXPRESSION, *_side_by_side()]
    status = pytest.main([*options, *(DRY_FILES if setting.dry else [TESTS_FOLDER])], plugins=[outcomes])
    counts = {outcome: len(tests) for outcome, tests in sorted(outcomes.ended.items())}
    others = {outcome: tests for outcome, tests in outcomes.ended.items() if outcome != "passed"}
    note = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    yield Figure(
        f"tests marked {MARK_EXPRESSION} that passed", counts.get("passed", 0), "tests", note=note, details=others
    )
    failed = outcomes.ended["failed"]
    for name, reason in failed[:_MAX_SHOWN_FAILURES]:
        yield Missing(name, reason)
    if failed or not counts.get("passed"):
        raise RuntimeError(
            f"{len(failed)} tests failed, {counts.get('passed', 0)} passed; pytest's status is {int(status)}"
        )


def _side_by_side() -> list[str]:
    """Return the options for running the tests in several processes; empty without pytest-xdist, or on few cores."""
    processes = len(os.sched_getaffinity(0)) // _CORES_PER_PROCESS
    if processes < 2 or find_spec("xdist") is None:
        return []
    # By file: most files start their engines once for all of their tests.
    return ["-p", "xdist.plugin", "-n", str(processes), "--dist", "loadfile"]


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the reason of a skip, or the end of a failure's report."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[-1])
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr or "").strip()[-600:]
