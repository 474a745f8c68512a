"""Tests of files whose weights are refused, in one sentence with the likely cause."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from pipeline.errors import InvalidModel
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from tests.support.checkpoints import MODEL, MODULE, STATE, State, loaded, prefixed, refusal, saved, trained

WITHOUT_STATE: dict[str, tuple[Any, str]] = {
    "empty dict": ({}, "holds no state dict, but a dict"),
    "list": ([torch.zeros(1)], "holds no state dict, but a list"),
    "tensor": (torch.zeros(1), "holds no state dict, but a Tensor"),
    "numbers for names": ({0: torch.zeros(1)}, "holds no state dict, but a dict"),
    "module": (
        MODULE,
        "holds a pickled module (torchvision.models.shufflenetv2.ShuffleNetV2), which is code and is not run; save",
    ),
    "module in a dict": (
        {"model": MODULE, "epoch": 1},
        "holds a pickled module (torchvision.models.shufflenetv2.ShuffleNetV2)",
    ),
    "parallel module": (nn.DataParallel(MODULE), "holds a pickled module (torch.nn.parallel.data_parallel.DataP"),
    "torch_ema": ({"decay": 0.9, "shadow_params": [torch.zeros(1)]}, "holds averaged weights without names (shadow_"),
}


@pytest.mark.parametrize("content", WITHOUT_STATE)
def test_a_file_without_a_state_dict_is_refused(content: str, tmp_path: Path) -> None:
    """A file without a state dict is refused in one sentence, if possible with the way to save one."""
    held, says = WITHOUT_STATE[content]
    assert refusal(saved(held, tmp_path)).startswith(f"weights: {tmp_path}/trained.pth {says}")


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(names)}


MISFITS: dict[str, tuple[Callable[[], Mapping[str, Any]], str]] = {
    "another architecture": (
        lambda: trained("mobilenet_v2").state_dict(),
        "282 of 338 tensors are missing (conv1.0.weight, conv1.1.weight, conv1.1.bias, ...), 314 are not the model's "
        "(features.0.0.weight, features.0.1.weight, features.0.1.bias, ...); they are perhaps of another architecture",
    ),
    "deeper": (
        lambda: {"model": prefixed("module.", {**STATE, "stage2.4.branch2.0.weight": torch.zeros(1)})},
        "in model, names after module., 1 are not the model's (stage2.4.branch2.0.weight); they are perhaps of another",
    ),
    "wider": (
        lambda: {"model": trained("shufflenet_v2_x1_0").state_dict()},
        "in model, 266 have another shape (stage2.0.branch1.2.weight: [58, 24, 1, 1] instead of [24, 24, 1, 1]); they",
    ),
    "no head": (
        lambda: without(STATE, "fc"),
        "2 of 338 tensors are missing (fc.weight, fc.bias); the rest fits: is the last layer, fc, built as torchvision",
    ),
    "another head": (
        lambda: {**without(STATE, "fc"), "fc.1.weight": torch.zeros(5, 1024), "fc.1.bias": torch.zeros(5)},
        "2 of 338 tensors are missing (fc.weight, fc.bias), 2 are not the model's (fc.1.weight, fc.1.bias); the rest",
    ),
    "quantized": (
        lambda: {**without(STATE, "fc"), "fc._packed_params._packed_params": torch.zeros(1)},
        "2 of 338 tensors are missing (fc.weight, fc.bias), 1 are not the model's (fc._packed_params._packed_params); "
        "they are quantized: save the state dict of the float model",
    ),
    "a number for a head": (lambda: {**STATE, "fc.weight": torch.tensor(1.0)}, "1 have another shape (fc.weight: [] "),
    "no class at all": (lambda: {**STATE, "fc.weight": torch.zeros(0, 1024)}, "1 have another shape (fc.weight: [0, "),
}


@pytest.mark.parametrize("form", MISFITS)
def test_weights_that_do_not_fit_are_refused(form: str, tmp_path: Path) -> None:
    """Weights that do not fit are refused with some of the names and the likely cause."""
    content, says = MISFITS[form]
    path = saved(content(), tmp_path)
    assert refusal(path).startswith(f"weights: {path} do not fit model: {MODEL}: {says}")


def test_weights_whose_parts_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """Weights that contradict each other are refused: here five classes in the weight, four in the bias."""
    path = saved({**STATE, "fc.bias": torch.zeros(4)}, tmp_path)
    with pytest.raises(InvalidModel, match=rf"do not fit model: {MODEL}: .* size mismatch for fc\.bias"):
        loaded(path)


def test_a_single_output_is_refused(tmp_path: Path) -> None:
    """A single output is refused, because its softmax is always 1.0. The message's remedy gives the sigmoid."""
    state = trained(classes=1).state_dict()
    says = refusal(saved(state, tmp_path))
    assert "have a single output, whose softmax is always 1.0" in says
    assert "Put a row of zeros before the only one in fc's weight and bias" in says
    assert "Write head: multilabel" in says
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    for name in ("fc.weight", "fc.bias"):
        state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    two = DeviceModule.of(loaded(saved(state, tmp_path)))
    with torch.inference_mode():
        logit = two.module(two.intake(pixels))[:, 1]
        assert cast(Classify, two.head).scores(two.outputs(pixels))[:, 1].allclose(logit.sigmoid(), atol=1e-5)
