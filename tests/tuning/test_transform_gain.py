"""Tests of what is measured and said about a user's own transform."""

import time
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision import transforms

from harness.photographs import jpeg, photograph
from pipeline.config import PipelineConfig
from tuning.findings import Findings
from tuning.sentences import said
from tuning.transform_gain import TransformGain, gain, measured_gain

USUAL: Any = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64), transforms.ToTensor()])
BUSY_S = 0.02
IMAGES = [jpeg(photograph("cat"))]


def slow(image: Image.Image) -> Tensor:
    """Return a transform of one's own that keeps a core busy."""
    until_s = time.thread_time() + BUSY_S
    while time.thread_time() < until_s:
        pass
    made: Tensor = USUAL(image)
    return made


def test_the_gain_of_a_recognised_transform_is_measured() -> None:
    found = measured_gain(USUAL, PipelineConfig(), IMAGES, 50_000_000)
    assert found.recognised_s
    assert 0 < found.decoding_s < found.as_it_is_s


def test_the_cost_of_a_transform_that_runs_as_it_is_is_measured() -> None:
    """The transform's own time stands beside that of decoding alone."""
    found = measured_gain(slow, PipelineConfig(), IMAGES, 50_000_000)
    assert found.recognised_s is None
    assert found.as_it_is_s - found.decoding_s >= BUSY_S
    assert found.reason.startswith("slow (test_transform_gain.py:")


def test_the_gain_is_told() -> None:
    (told,) = gain(TransformGain(as_it_is_s=0.0031, decoding_s=0.001, recognised_s=0.0014))
    assert told == (
        "Your transform is recognised: an image takes 1.4 ms of a core, from its bytes to the model's input. If it ran "
        "as it is, an image would take 3.1 ms, 2.2 times as long"
    )


def test_the_cost_is_told_with_the_reason() -> None:
    (told,) = gain(TransformGain(0.0031, 0.001, reason="GaussianBlur is not a step of the fast path"))
    assert told == (
        "Your transform runs as it is: GaussianBlur is not a step of the fast path. An image takes 3.1 ms of a core, "
        "of which decoding alone takes 1 ms"
    )


def test_the_result_of_a_run_has_the_sentence() -> None:
    """It stands under "What was found", where there is a transform of the user's own."""
    findings = Findings("darkroom tune", "2026-01-01", None, 0)
    assert not [*said(findings)]
    findings.transform = TransformGain(0.0031, 0.001, 0.0014)
    assert [*said(findings)] == [("What was found", [*gain(findings.transform)])]
