"""Tests that the fast path takes the place of a transform only if both give the same numbers."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import functional, transforms, v2

from harness.photographs import NAMES, encoded, photograph
from pipeline import Engine, Geometry, Head, PipelineConfig, Prediction, ServedModel
from pipeline.model.recognition import MAX_LEVELS, expected_tensor, images_to_compare, on_fast_path, recognised
from pipeline.model.served import Preprocess
from pipeline.model.transform_steps import Recognised, Unrecognised

CONFIG = PipelineConfig(
    device="cpu", runtime="torch", batch_sizes=(1, 4), slots=8, decode_workers=1, spare_workers=0, decode="exact"
)
T: Any = transforms
USUAL = T.Compose([T.Resize(40), T.CenterCrop(32), T.ToTensor(), T.Normalize([0.4, 0.5, 0.6], [0.1, 0.2, 0.3])])
READS_LIKE = Preprocess(40, 32, "bilinear", (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
ON_TENSORS = v2.Compose([v2.ToImage(), v2.Resize(40), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True)])


def reason(transform: Any, decode: str = "fast") -> str:
    """Return the reason why a transform runs as it is."""
    found = recognised(transform, decode)
    assert isinstance(found, Unrecognised)
    return found.reason


@pytest.mark.parametrize("decode", ["fast", "exact"])
def test_the_same_numbers_are_recognised(decode: str) -> None:
    assert recognised(USUAL, decode) == READS_LIKE


def test_a_square_of_every_image_is_recognised() -> None:
    """Resize with two numbers changes proportions, as the fast path can."""
    squash = T.Compose([T.Resize((40, 40)), T.ToTensor()])
    assert recognised(squash, "exact") == Preprocess(40, 40, "bilinear", (0.0,) * 3, (1.0,) * 3, squash=True)


def test_a_resized_tensor_is_recognised_with_the_same_kernel() -> None:
    """With `decode: fast` torch's kernel resizes; Pillow, which `exact` uses, rounds some pixels otherwise."""
    assert recognised(ON_TENSORS, "fast") == Preprocess(40, 32, "bilinear", (0.0,) * 3, (1.0,) * 3)
    assert "put Resize before the conversion" in reason(ON_TENSORS, "exact")


def test_a_step_that_does_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop one pixel beside the centre reads like the usual steps, and is not."""
    monkeypatch.setattr(T.CenterCrop, "forward", lambda self, image: functional.crop(image, 0, 0, *self.size))
    assert "levels on a test image of 173 x 61 pixels" in reason(USUAL)


def test_rounding_alone_agrees() -> None:
    """The largest difference allowed is far above float32's rounding, and far below the least change of a pixel."""
    worst = 0.0
    for image in images_to_compare(40):
        off = (USUAL(image) - expected_tensor(image, Recognised(READS_LIKE))) * torch.tensor([0.1, 0.2, 0.3])[
            :, None, None
        ]
        worst = max(worst, 255 * float(off.abs().max()))
    assert 100 * worst < 100 * MAX_LEVELS < 1.5


def test_a_transform_that_fails_runs_as_it_is() -> None:
    """Normalize refuses bytes: the reason has the error and the image."""
    wrong = T.Compose([T.PILToTensor(), T.Normalize([0.5], [0.5]), T.Resize(40), T.CenterCrop(32), T.ToTensor()])
    assert "it raises TypeError on a test image of" in reason(wrong)


def test_another_kind_of_tensor_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(T.Normalize, "forward", lambda _, tensor: tensor.double())
    assert "it returns torch.float64 [3, 32, 32] on a test image" in reason(USUAL)
    monkeypatch.setattr(T.Normalize, "forward", lambda *_: [1])
    assert "it returns list on a test image" in reason(USUAL)


def test_the_comparison_takes_a_part_of_a_second() -> None:
    usual = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), T.Normalize([0.5], [0.5])])
    began_s = time.thread_time()
    assert isinstance(recognised(usual, "exact"), Preprocess)
    assert time.thread_time() - began_s < 0.4


def test_the_reason_stands_beside_the_origin() -> None:
    """A transform that is not recognised stays, and `transform_from` says why."""
    served = ServedModel(nn.Identity(), T.GaussianBlur(3), Inputs())
    kept = on_fast_path(on_fast_path(served, "fast"), "fast")  # as `darkroom check` and the engine do
    assert kept.transform is served.transform
    assert kept.transform_from == "the caller, which runs as it is: GaussianBlur is not a step of the fast path"


class Inputs(Head):
    """Returns the input of the module, so that it can be compared."""

    def on_device(self, outputs: Tensor) -> dict[str, Tensor]:
        """Hand on float [n, 3, side, side]."""
        return {"inputs": outputs}

    def results(self, rows: Mapping[str, Tensor], geometry: Sequence[Geometry]) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return one list of numbers for each image."""
        return [{"input": row} for row in rows["inputs"].tolist()]


def test_the_engine_gives_the_module_the_same_numbers() -> None:
    """The user's module gets what his transform makes of every photograph, and /info says from where."""
    with Engine(CONFIG, model=ServedModel(nn.Identity(), USUAL, Inputs())) as engine:
        outcomes = engine.infer([encoded(photograph(name), "PNG") for name in NAMES])
        assert engine.transform_from == "the caller, recognised in Compose"
    for name, outcome in zip(NAMES, outcomes, strict=True):
        assert isinstance(outcome, Prediction)
        given = torch.tensor(outcome.result["input"])
        torch.testing.assert_close(given, USUAL(photograph(name)), atol=1e-5, rtol=0)
