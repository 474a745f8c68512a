"""Tests of a whole tuning run: its refusals before a service starts, its remaining time, and its choice."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from deployments.checks.chosen_application import chosen_application
from harness.local_service import shipped_config
from harness.photographs import jpeg, photograph
from pipeline.bounds import DECODE_BYTES_PER_PIXEL
from tests.support.quick_model import QUICK_MODEL
from tests.tuning.measured import seen
from tuning import tuning_run
from tuning.computing import MeasuredModel
from tuning.findings import Findings
from tuning.forecast import Refused
from tuning.load_check import Busy, LoadResult
from tuning.plan import Plan, worker_counts
from tuning.replica_memory import available_bytes
from tuning.replica_settings import Settings
from tuning.step import Step
from tuning.tuned_config import tuned_config
from tuning.tuning_run import TuningRun

CAT = jpeg(photograph("cat"))
TINY = Plan(images=2, decode_s=0.05, turns=1, batch_s=0.02, check_s=0.5)


@dataclass
class _Refusal:
    """A run that has refused, with the titles and the seconds left that it told before each step."""

    run: TuningRun
    findings: Findings
    told: list[tuple[str, float]]
    says: str


def _refused(images: Mapping[str, bytes], bound_s: float | None = 0.1, **live: Any) -> _Refusal:
    """Run until it refuses, before any service is started."""
    document, told = shipped_config(), list[tuple[str, float]]()
    application = chosen_application(document, None)[1]
    application["deployments"][0]["user_config"].update(live)
    application["args"]["pipeline"].update(model=QUICK_MODEL, runtime="torch")
    findings = Findings("darkroom tune", "today", bound_s, 0)
    with (
        TuningRun(tuned_config(document, application, {}), images, TINY, findings) as tuning,
        pytest.raises(Refused) as refused,
    ):
        tuning.run(lambda title, left_s: told.append((title, left_s)))
    return _Refusal(tuning, findings, told, str(refused.value))


@pytest.fixture(scope="module")
def measured() -> _Refusal:
    """Return a run that has measured everything, and was then refused for a bound of 1 ms."""
    return _refused({"cat": CAT}, bound_s=0.001)


class _Measured:
    """Stands in for measuring: gives what another run has measured."""

    def __init__(self, done: _Refusal, _tuned: object, _images: object, _plan: object, findings: Findings, *_: object):
        findings.images, findings.sizes, findings.model = done.findings.images, done.findings.sizes, done.findings.model
        findings.costs, self.steps = done.findings.costs, list[Step]()
        self.model, self.images = done.run._measuring.model, done.run._measuring.images


@pytest.fixture
def without_measuring(measured: _Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run begin with what `measured` has measured."""
    monkeypatch.setattr(tuning_run, "Measuring", partial(_Measured, measured))


class _Service:
    """A stand-in for a service that is never started."""

    def __init__(self, *_: object) -> None:
        self.document: dict[str, Any] = {}

    def interrupt(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""


class _Check:
    """Stands in for a load check: 60 images/s with the first settings, and `faster` times as many with others."""

    def __init__(self, faster: float, *_: object, **__: object) -> None:
        self.bound_s, self.expected, self.last_others = 0.5, 0.0, ""
        self._faster, self._applied, self._first = faster, list[Settings](), list[Settings]()

    def apply(self, settings: Settings) -> None:
        self._applied.append(settings)

    def closed_loop(self, settings: Settings, clients: int, for_s: float) -> LoadResult:  # noqa: ARG002
        assert settings == (self._applied or [settings])[-1]
        self._first = self._first or [settings]
        rate = 60.0 if settings.args == self._first[0].args else 60.0 * self._faster
        return seen(settings, clients=clients, offered=rate, p99_s=clients / rate)

    def busy(self, _: int) -> Busy:
        return Busy()

    def verdict(self, _: int) -> str:
        return "cpu-bound"


@pytest.mark.usefixtures("without_measuring")
@pytest.mark.parametrize(("faster", "is_chosen"), [(1.5, True), (1.0, False)])
def test_the_predicted_settings_are_chosen_if_the_service_answers_more_with_them(
    monkeypatch: pytest.MonkeyPatch, faster: float, is_chosen: bool
) -> None:
    """The predicted settings are chosen if the service answers more with them.

    The chosen ones are run again and written.
    """
    monkeypatch.setattr(tuning_run, "LocalService", _Service)
    monkeypatch.setattr(tuning_run, "LoadCheck", partial(_Check, faster))
    monkeypatch.setattr(MeasuredModel, "speed", lambda *_: 1.0)
    document = shipped_config()
    findings = Findings("darkroom tune", "today", None, 0)
    with TuningRun(
        tuned_config(document, chosen_application(document, None)[1], {}), {"cat": CAT}, TINY, findings
    ) as tuning:
        tuning.run(lambda _title, _left_s: None)
    assert findings.present is not None
    assert findings.predicted is not None
    present, predicted = findings.of(findings.present), findings.of(findings.predicted)
    assert (len(present), len(predicted), len(findings.trials)) == (2, 2, 4)
    assert findings.comparison is not None
    assert findings.comparison.gain == pytest.approx(faster - 1)
    assert findings.chosen == (predicted if is_chosen else present)[-1].settings
    assert findings.written is not None
    assert findings.written.key == (findings.predicted if is_chosen else findings.present).key
    assert findings.verdict == "cpu-bound"


def test_a_bound_that_cannot_be_met_is_refused_with_what_could_be(measured: _Refusal) -> None:
    """A bound that cannot be met is refused after all costs are measured and before a service starts.

    The time left only falls.
    """
    assert measured.says.startswith("--p99-ms 1 cannot be met on this machine: an image takes at least ")
    assert "Nothing was changed. Give a larger --p99-ms" in measured.says
    assert measured.findings.costs is not None
    assert measured.findings.cells
    titles = [title for title, _ in measured.told]
    assert titles[:3] == ["reading the images", "loading the model", "measuring decoding and the model"]
    assert titles[3] == "decoding with 1 worker"
    assert titles[-1] == "predicting the best settings"
    assert all(later <= earlier + 10 for (_, earlier), (_, later) in itertools.pairwise(measured.told))


@pytest.mark.usefixtures("without_measuring")
def test_settings_that_the_memory_does_not_hold_are_refused() -> None:
    """Settings that do not fit into memory are refused: every worker may need that of the largest image."""
    says = _refused({"cat": CAT}, None, max_image_pixels=10**11).says
    assert says.startswith("too little memory: ")
    assert "100000000000 pixels; write a smaller max_image_pixels" in says


@pytest.mark.usefixtures("without_measuring")
def test_what_the_memory_does_not_hold_is_no_candidate() -> None:
    """Combinations that do not fit into memory are left out, here those of three processes. The report says so.

    There is one process more than workers or than concurrent batches, whichever are more.
    """
    pixels = int(0.3 * available_bytes()) // DECODE_BYTES_PER_PIXEL
    refusal = _refused({"cat": CAT}, bound_s=0.001, max_image_pixels=pixels)
    assert refusal.says.startswith("--p99-ms 1 cannot be met")
    (line,) = refusal.findings.too_large
    count = len(refusal.findings.cells)
    assert line.startswith(f"{count - 1} of {count} combinations of workers, concurrent batches and")


def test_without_an_image_that_can_be_decoded_nothing_is_measured() -> None:
    refusal = _refused({"a.jpg": b"text", "b.jpg": CAT[:100]})
    assert refusal.says.startswith("none of the 2 images can be decoded; the first: a.jpg: ")
    assert refusal.findings.costs is None
    assert [title for title, _ in refusal.told] == ["reading the images"]


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (12, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16])]
)
def test_many_cores_are_not_tried_one_by_one(cores: int, counts: list[int]) -> None:
    assert worker_counts(cores) == counts
