"""A small model, its weights, and files with them as trainers write them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.served import ServedModel
from pipeline.model.source import load_model

MODEL = "shufflenet_v2_x0_5"  # small, and with batch norm, whose statistics are buffers


State = dict[str, Tensor]


def trained(model: str = MODEL, classes: int = 5, seed: int = 7) -> nn.Module:
    """Return a model in place of one that a user has trained."""
    torch.manual_seed(seed)
    module: nn.Module = models.get_model(model, weights=None, num_classes=classes).eval()
    return module


MODULE = trained()
STATE: State = MODULE.state_dict()
EMA: State = trained(seed=8).state_dict()


def loaded(path: Path, model: str = MODEL) -> ServedModel:
    """Return the model filled with the weights of a file."""
    return load_model(PipelineConfig(device="cpu", model=model, weights=str(path)))


def saved(content: Any, folder: Path, name: str = "trained.pth") -> Path:
    """Write a file as `torch.save` does, and return its path."""
    torch.save(content, folder / name)
    return folder / name


def holds(model: ServedModel, state: State) -> bool:
    """Return whether a model has exactly these weights."""
    restored = model.module.state_dict()
    return all(restored[name].equal(value) for name, value in state.items())


def prefixed(prefix: str, state: State = STATE) -> State:
    """Return the weights with a prefix before each name."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def refusal(path: Path, model: str = MODEL) -> str:
    """Return the sentence with which a file is refused."""
    with pytest.raises(InvalidModel) as refused:
        loaded(path, model)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    return str(refused.value)
