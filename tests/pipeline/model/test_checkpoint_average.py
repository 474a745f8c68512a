"""Tests of choosing among several state dicts in one file: averaged weights go first."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from tests.support.checkpoints import EMA, MODEL, MODULE, STATE, State, holds, loaded, prefixed, saved, trained


def averaged() -> State:
    """Return weights as `AveragedModel` writes them: `module.` before all names, and a counter."""
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
