"""Tests of the causes of NaN scores, each reported in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import models

from deployments.http.statuses import status_of
from pipeline.config import PipelineConfig
from pipeline.errors import NonFiniteScores
from pipeline.model.nonfinite import causes
from pipeline.model.source import load_model

MODEL = "squeezenet1_1"

State = dict[str, Tensor]


def told(folder: Path, state: State, **settings: Any) -> str:
    """Return the sentence about a state dict that is served with these settings."""
    torch.save(state, folder / "own.pth")
    config = PipelineConfig(
        model=MODEL, weights=str(folder / "own.pth"), device="cpu", crop_px=32, resize_px=32, **settings
    )
    return causes(f"{config.weights} of {MODEL}", config.dtype, lambda: load_model(config), config.std or ())


@pytest.fixture
def state() -> State:
    """Finite weights of a model with three classes."""
    torch.manual_seed(7)
    state: State = models.squeezenet1_1(num_classes=3).state_dict()
    return state


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_tensor_that_is_not_finite_is_named(value: float, state: State, tmp_path: Path) -> None:
    for name in ("features.4.squeeze.weight", "classifier.1.bias"):
        state[name].view(-1)[-1] = value
    said = told(tmp_path, state)
    assert "the tensor features.4.squeeze.weight holds NaN or infinity" in said
    assert str(tmp_path / "own.pth") in said


def test_an_overflow_in_float16_alone_is_told(state: State, tmp_path: Path) -> None:
    """An overflow in float16 only, of activations or of a weight, is named with its remedy."""
    state["classifier.1.bias"][0] = 1e6
    said = told(tmp_path, state, dtype="float16")
    assert said.endswith("in float16 numbers above 65504 overflow, in float32 they do not; write dtype: float32")


def test_an_overflow_in_float32_is_told(state: State, tmp_path: Path) -> None:
    """An overflow in float32 is named although the weights themselves are finite."""
    state["classifier.1.weight"].fill_(3e38)
    assert "what the model computes with them overflows" in told(tmp_path, state)


def test_a_std_that_is_nothing_in_float32_is_told(state: State, tmp_path: Path) -> None:
    assert "std: [1e-44, 1.0, 1.0] is too small to divide by" in told(tmp_path, state, std=(1e-44, 1, 1))


def test_an_image_without_scores_is_no_fault_of_the_server() -> None:
    """An image without scores is a client error, as no image makes a 500; the log names the device stage."""
    error = NonFiniteScores("the model's scores of the image are not finite numbers (NaN)")
    assert (status_of(error), error.stage) == (422, "device")
