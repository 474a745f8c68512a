"""Tests of finding the state dict in files of different trainers."""

import argparse
import collections
import datetime
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision import models

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.checkpoint import find_state
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_classifier import load_model

MODEL = "shufflenet_v2_x0_5"  # small, and with batch norm, whose statistics are buffers

State = dict[str, Tensor]


def trained(model: str = MODEL, classes: int = 5, seed: int = 7) -> nn.Module:
    """Returns a model in place of one that a user has trained."""
    torch.manual_seed(seed)
    module: nn.Module = models.get_model(model, weights=None, num_classes=classes).eval()
    return module


MODULE = trained()
STATE: State = MODULE.state_dict()
EMA: State = trained(seed=8).state_dict()


def loaded(path: Path, model: str = MODEL) -> ServedModel:
    return load_model(PipelineConfig(device="cpu", model=model, weights=str(path)))


def saved(content: Any, folder: Path, name: str = "trained.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def holds(model: ServedModel, state: State) -> bool:
    """Returns whether a model has exactly these weights."""
    restored = model.module.state_dict()
    return all(restored[name].equal(value) for name, value in state.items())


def prefixed(prefix: str, state: State = STATE) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


class TrainingSettings(dict[str, Any]):
    """A dict subclass in a checkpoint, as Lightning's AttributeDict."""


class Stage(enum.Enum):
    """A class of the trainer's own, used as a setting."""

    TRAIN = 1


ARGS = argparse.Namespace(lr=0.1, output=Path("out"), stage=Stage.TRAIN)
LIGHTNING = {
    "epoch": 3,
    "global_step": 100,
    "pytorch-lightning_version": "2.5.0",
    "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9), "dirpath": Path("out")}},
    "hyper_parameters": TrainingSettings(lr=0.1, model=TrainingSettings(depth=18)),
    "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}],
}

FORMS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "plain": lambda: STATE,
    "half precision": lambda: {name: value.half() for name, value in STATE.items()},
    "torch.compile": lambda: prefixed("_orig_mod."),
    "DistributedDataParallel": lambda: prefixed("module."),
    "compiled, then parallel": lambda: prefixed("module._orig_mod."),
    "parallel, then compiled": lambda: prefixed("_orig_mod.module."),
    "parts compiled": lambda: {name.replace("stage2.", "stage2._orig_mod."): value for name, value in STATE.items()},
    "first part compiled": lambda: {
        name.replace("conv1.0", "conv1._orig_mod.0"): value for name, value in STATE.items()
    },
    "without num_batches_tracked": lambda: {n: v for n, v in STATE.items() if not n.endswith("num_batches_tracked")},
    "thop's counters": lambda: {**STATE, "total_ops": torch.zeros(1), "stage2.0.total_params": torch.zeros(1)},
    "an epoch among the tensors": lambda: {**STATE, "epoch": 3},
    "examples/imagenet": lambda: {
        "epoch": 3,
        "arch": MODEL,
        "state_dict": prefixed("module."),
        "best_acc1": torch.tensor(71.0),
        "optimizer": {"state": {}, "param_groups": []},
    },
    "torchvision/references": lambda: {"model": STATE, "optimizer": {}, "lr_scheduler": {}, "epoch": 3, "args": ARGS},
    "a tutorial's": lambda: {"epoch": 3, "model_state_dict": STATE, "loss": np.float64(0.1)},
    "Lightning, model": lambda: {**LIGHTNING, "state_dict": prefixed("model.")},
    "Lightning, net, compiled": lambda: {**LIGHTNING, "state_dict": prefixed("net._orig_mod.")},
    "Lightning, with a loss that has weights": lambda: {
        **LIGHTNING,
        "state_dict": {"criterion.weight": torch.ones(5), **prefixed("backbone.")},
    },
    "DeepSpeed": lambda: {"module": STATE, "dp_world_size": 1, "ds_config": {"fp16": True}},
    "deep inside": lambda: {"checkpoint": {"networks": {"classifier": prefixed("module.encoder.")}}},
    "odd settings beside": lambda: {
        "net": STATE,
        "best": np.float32(0.5),
        "when": datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
        "last": collections.deque([0.1, 0.2], maxlen=3),
        "history": collections.defaultdict(list, {"loss": [0.1]}),
        "random": np.random.RandomState(0).get_state(),
        "class": TrainingSettings,
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_in_what_trainers_write(form: str, tmp_path: Path) -> None:
    """All weights are found under the model's own names in each trainer's file.

    The classes are counted from the last layer.
    """
    content = FORMS[form]()
    state = {name: value.half().float() for name, value in STATE.items()} if form == "half precision" else STATE
    if form == "without num_batches_tracked":
        state = {name: value for name, value in STATE.items() if name in content}
    model = loaded(saved(content, tmp_path))
    assert holds(model, state)
    assert model.head.labels == tuple(f"class {index}" for index in range(5))
    assert {value.dtype for value in model.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["w.pth.tar", "w.CKPT", "w.safetensors", "sub/w"])
@pytest.mark.parametrize("written_by", ["torch", "torch before 1.6", "safetensors"])
def test_a_file_is_read_as_what_it_is(written_by: str, name: str, tmp_path: Path) -> None:
    """A file is read by its content, not by its name. The names in a safetensors file come back sorted."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if written_by == "safetensors":
        safetensors.torch.save_file(prefixed("module."), path)
    else:
        torch.save(prefixed("module."), path, _use_new_zipfile_serialization=written_by == "torch")
    template = trained(classes=1000).state_dict()
    found = find_state(path, template, named="weights")
    assert found.state.keys() == template.keys()
    assert all(found.state[key].equal(value) for key, value in STATE.items())


@pytest.mark.parametrize("model", ["squeezenet1_1", "mnasnet0_5", "regnet_y_400mf"])
def test_other_models_are_filled(model: str, tmp_path: Path) -> None:
    """Weights load into models of other kinds, for example with a convolution as head or with versioned loading."""
    state = trained(model).state_dict()
    assert holds(loaded(saved(state, tmp_path), model), state)


def test_heads_for_training_alone_may_lack(tmp_path: Path) -> None:
    module = models.googlenet(num_classes=5, init_weights=False)
    state = {name: value for name, value in module.state_dict().items() if not name.startswith("aux")}
    assert holds(loaded(saved(state, tmp_path), "googlenet"), state)


@pytest.mark.parametrize(
    ("today", "before"),
    [
        ("features.denseblock1.denselayer2.norm1.weight", "features.denseblock1.denselayer2.norm.1.weight"),
        ("features.denseblock1.denselayer2.conv2.weight", "features.denseblock1.denselayer2.conv.2.weight"),
        ("encoder.layers.encoder_layer_0.mlp.0.bias", "encoder.layers.encoder_layer_0.mlp.linear_1.bias"),
        ("encoder.layers.encoder_layer_0.mlp.3.bias", "encoder.layers.encoder_layer_0.mlp.linear_2.bias"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_that_torchvision_has_changed_are_known(today: str, before: str, prefix: str, tmp_path: Path) -> None:
    """Old names of weights are known: DenseNet's in torchvision's files, and ViT's before 0.14."""
    template = {today: torch.zeros(3), "classifier.weight": torch.zeros(1000, 2)}
    state = {before: torch.ones(3), "classifier.weight": torch.ones(5, 2)}
    found = find_state(saved(prefixed(prefix, state), tmp_path), template, named="weights")
    assert list(found.state) == list(template)


# ---- several weights in one file ------------------------------------------------------------------------------------


def averaged() -> State:
    """Returns weights as `AveragedModel` writes them: `module.` before all names, and a counter."""
    module = trained(seed=8)
    return dict(AveragedModel(module).state_dict())


BOTH: dict[str, tuple[Callable[[], Mapping[str, Any]], str]] = {
    "torchvision": (lambda: {"model": STATE, "model_ema": averaged()}, "model_ema, names after module."),
    "timm": (lambda: {"arch": MODEL, "state_dict": STATE, "state_dict_ema": EMA}, "state_dict_ema"),
    "the average first": (lambda: {"ema": EMA, "model": STATE}, "ema"),
    "deep": (lambda: {"model": STATE, "ema": {"decay": 0.9, "module": EMA}}, "ema.module"),
    "in Lightning's names": (
        lambda: {"state_dict": {**prefixed("model."), **prefixed("ema_model.module.", EMA)}},
        "state_dict, names after ema_model.module.",
    ),
    "ema-pytorch": (
        lambda: {**prefixed("online_model."), **prefixed("ema_model.", EMA), "initted": torch.tensor(True)},
        "names after ema_model.",
    ),
    "SWA": (lambda: {"net": STATE, "swa_model": prefixed("module.", EMA)}, "swa_model, names after module."),
}


@pytest.mark.parametrize("form", BOTH)
def test_an_average_over_the_training_goes_first(form: str, tmp_path: Path) -> None:
    """Averaged weights are preferred, and the source names them and the other weights in the file."""
    content, place = BOTH[form]
    model = loaded(saved(content(), tmp_path))
    assert holds(model, EMA)
    assert model.weights_from.startswith(f"{tmp_path}/trained.pth: {place} (also there: ")


def test_of_two_that_are_no_averages_the_first_is_taken(tmp_path: Path) -> None:
    """If two state dicts fit and neither is an average, the first is taken.

    Lightning's averaging writes the current weights second.
    """
    path = saved({"state_dict": prefixed("model.", EMA), "current_model_state": prefixed("model.")}, tmp_path)
    model = loaded(path)
    assert holds(model, EMA)
    assert model.weights_from == (
        f"{path}: state_dict, names after model. (also there: current_model_state, names after model.)"
    )


def test_an_average_that_does_not_fit_is_said_to_be_left(tmp_path: Path) -> None:
    """An average that lacks the batch norm statistics or the names is not used, and the source says so."""
    shadow = dict(MODULE.named_parameters())
    path = saved({"model": STATE, "ema": shadow, "torch_ema": {"shadow_params": list(shadow.values())}}, tmp_path)
    model = loaded(path)
    assert holds(model, STATE)
    assert (
        "ema does not fit: 112 of 338 tensors are missing (conv1.1.running_mean, conv1.1.running_var, "
        in model.weights_from
    )
    assert "shadow_params, averaged weights without names, cannot be taken" in model.weights_from


def test_a_plain_file_is_said_by_its_name_alone(tmp_path: Path) -> None:
    path = saved(STATE, tmp_path)
    assert loaded(path).weights_from == str(path)


def test_a_prefix_is_told_once(tmp_path: Path) -> None:
    """The same weights, found with and without a wrapper's prefix, are named once."""
    path = saved({"model": prefixed("module._orig_mod.")}, tmp_path)
    assert loaded(path).weights_from == f"{path}: model, names after module._orig_mod."


def test_what_a_callback_keeps_for_itself_is_left(tmp_path: Path) -> None:
    """The average in a Lightning callback is not used, because its batch norm has not been updated."""
    private = {"StochasticWeightAveraging": {"average_model_state": prefixed("model.", EMA)}}
    path = saved({"callbacks": private, "state_dict": prefixed("model.")}, tmp_path)
    model = loaded(path)
    assert holds(model, STATE)
    assert model.weights_from == f"{path}: state_dict, names after model."


# ---- what is refused ------------------------------------------------------------------------------------------------


def refusal(path: Path, model: str = MODEL) -> str:
    with pytest.raises(InvalidModel) as refused:
        loaded(path, model)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    return str(refused.value)


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
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    for name in ("fc.weight", "fc.bias"):
        state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    two = DeviceModule.of(loaded(saved(state, tmp_path)))
    with torch.inference_mode():
        logit = two.module(pixels.permute(0, 3, 1, 2) * two.scale + two.shift)[:, 1]
        assert cast(Classify, two.head).scores(two.outputs(pixels))[:, 1].allclose(logit.sigmoid(), atol=1e-5)
