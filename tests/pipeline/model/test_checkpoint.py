"""Tests of finding the state dict in files of different trainers."""

import argparse
import collections
import datetime
import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision import models

from pipeline.model.checkpoint import find_state
from tests.support.checkpoints import MODEL, STATE, holds, loaded, prefixed, saved, trained


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
