"""A run's steps: what ends it before a service is started, and how its time is told."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from harness.local_service import shipped_config
from harness.photographs import jpeg, photograph
from pipeline.config import DECODE_BYTES_PER_PIXEL
from tuning.document import first_application
from tuning.findings import Findings
from tuning.forecast import Refused
from tuning.plan import Plan, worker_counts
from tuning.replica_memory import available_bytes
from tuning.tuned_config import tuned_config
from tuning.tuning_run import TuningRun

CAT = jpeg(photograph("cat"))
TINY = Plan(images=2, decode_s=0.05, turns=1, batch_s=0.02, check_s=0.5)


def _run(
    images: Mapping[str, bytes], bound_s: float | None = 0.1, **live: Any
) -> tuple[Findings, list[tuple[str, float]], str]:
    """Runs until it refuses: all of these do before a service is started."""
    document, told = shipped_config(), list[tuple[str, float]]()
    application = first_application(document)
    application["deployments"][0]["user_config"].update(live)
    findings = Findings("darkroom tune", "today", bound_s, 0)
    with (
        TuningRun(tuned_config(document, application, {}), images, TINY, findings) as tuning,
        pytest.raises(Refused) as refused,
    ):
        tuning.run(lambda title, left_s: told.append((title, left_s)))
    return findings, told, str(refused.value)


def test_a_bound_that_cannot_be_met_is_refused_with_what_could_be() -> None:
    """After all that costs has been measured, and before a service is started; the time that is left falls."""
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
    """Every worker may need what the largest image takes."""
    _, _, says = _run({"cat": CAT}, None, max_image_pixels=10**11)
    assert says.startswith("too little memory: ")
    assert "100000000000 pixels; write a smaller max_image_pixels" in says


def test_what_the_memory_does_not_hold_is_no_candidate() -> None:
    """Two workers and a spare one, each of which may need 30 % of it, are too many; and the report says so."""
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
