"""Tests of a whole tuning run: its refusals before a service starts, its remaining time, and its choice."""

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from deployments.checks.chosen_application import chosen_application
from harness.local_service import shipped_config
from harness.photographs import jpeg, photograph
from pipeline.config import DECODE_BYTES_PER_PIXEL
from tests.tuning.measured import seen
from tuning import tuning_run
from tuning.computing import MeasuredModel
from tuning.findings import Findings
from tuning.forecast import Refused
from tuning.load_check import Busy, LoadResult
from tuning.plan import Plan, worker_counts
from tuning.replica_memory import available_bytes
from tuning.replica_settings import Settings
from tuning.tuned_config import tuned_config
from tuning.tuning_run import TuningRun

CAT = jpeg(photograph("cat"))
TINY = Plan(images=2, decode_s=0.05, turns=1, batch_s=0.02, check_s=0.5)


def _run(
    images: Mapping[str, bytes], bound_s: float | None = 0.1, **live: Any
) -> tuple[Findings, list[tuple[str, float]], str]:
    """Runs until it refuses, before any service is started."""
    document, told = shipped_config(), list[tuple[str, float]]()
    application = chosen_application(document, None)[1]
    application["deployments"][0]["user_config"].update(live)
    findings = Findings("darkroom tune", "today", bound_s, 0)
    with (
        TuningRun(tuned_config(document, application, {}), images, TINY, findings) as tuning,
        pytest.raises(Refused) as refused,
    ):
        tuning.run(lambda title, left_s: told.append((title, left_s)))
    return findings, told, str(refused.value)


class _Service:
    """A stand-in for a service that is never started."""

    def __init__(self, *_: object) -> None:
        self.document: dict[str, Any] = {}

    def interrupt(self) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""


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


def test_a_bound_that_cannot_be_met_is_refused_with_what_could_be() -> None:
    """A bound that cannot be met is refused after all costs are measured and before a service starts.

    The time left only falls.
    """
    findings, told, says = _run({"cat": CAT}, bound_s=0.001)
    assert says.startswith("--p99-ms 1 cannot be met on this machine: an image takes at least ")
    assert "Nothing was changed. Give a larger --p99-ms" in says
    assert findings.costs is not None
    assert findings.cells
    titles = [title for title, _ in told]
    assert titles[:3] == ["reading the images", "loading the model", "measuring decoding and the model"]
    assert titles[3] == "decoding with 1 worker"
    assert titles[-1] == "predicting the best settings"
    assert all(later <= earlier + 10 for (_, earlier), (_, later) in itertools.pairwise(told))


def test_settings_that_the_memory_does_not_hold_are_refused() -> None:
    """Settings that do not fit into memory are refused: every worker may need that of the largest image."""
    _, _, says = _run({"cat": CAT}, None, max_image_pixels=10**11)
    assert says.startswith("too little memory: ")
    assert "100000000000 pixels; write a smaller max_image_pixels" in says


def test_what_the_memory_does_not_hold_is_no_candidate() -> None:
    """Combinations that do not fit into memory are left out, here two workers and a spare one. The report says so."""
    pixels = int(0.3 * available_bytes()) // DECODE_BYTES_PER_PIXEL
    findings, _, says = _run({"cat": CAT}, bound_s=0.001, max_image_pixels=pixels)
    assert says.startswith("--p99-ms 1 cannot be met")
    (line,) = findings.too_large
    assert line.startswith(
        f"{len(findings.cells) // 2} of {len(findings.cells)} combinations of workers, concurrent batches and"
    )


def test_without_an_image_that_can_be_decoded_nothing_is_measured() -> None:
    findings, told, says = _run({"a.jpg": b"text", "b.jpg": CAT[:100]})
    assert says.startswith("none of the 2 images can be decoded; the first: a.jpg: ")
    assert findings.costs is None
    assert [title for title, _ in told] == ["reading the images"]


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (12, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16])]
)
def test_many_cores_are_not_tried_one_by_one(cores: int, counts: list[int]) -> None:
    assert worker_counts(cores) == counts
