"""Weights of torchvision's models: torchvision's own by name, or those of a file."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.catalogue import is_path, no_such_weights
from pipeline.model.checkpoint import find_state
from pipeline.model.fetch import local_path
from pipeline.model.labels import labels_in, read_labels
from pipeline.pinned_file import PinnedFile
from pipeline.torchvision_models import WeightsEnum, models

Build = Callable[[int], nn.Module]
"""Function that builds a model with random weights for a number of classes."""


def named_weights(known: type[WeightsEnum], config: PipelineConfig) -> WeightsEnum:
    """Return torchvision's weights that the configuration names.

    Raises:
        InvalidModel: the model has no such weights.
    """
    try:
        return known[config.weights]
    except KeyError:
        names = list(known.__members__)
        raise InvalidModel(f"weights: {no_such_weights(config.weights, config.model, names)}") from None


def pretrained(config: PipelineConfig) -> nn.Module:
    """Build the model that the configuration names with torchvision's weights, from torch's folder or the network.

    Raises:
        InvalidModel: the weights cannot be loaded.
    """
    if torch.hub.get_dir().startswith("~"):
        raise InvalidModel(
            f"weights: {config.weights} are loaded from the home directory, and this user has none; set HOME or "
            "TORCH_HOME to a folder where this user may write"
        )
    try:
        with redirect_stdout(sys.stderr):  # torch prints that it downloads; standard output is for results
            backbone: nn.Module = models.get_model(config.model, weights=config.weights)
    except Exception as error:  # no network; or a damaged file, which raises anything
        folder = Path(torch.hub.get_dir(), "checkpoints")
        raise InvalidModel(
            f"weights: {config.weights} of {config.model} are not in {folder} and cannot be loaded: {error}"
        ) from error
    return backbone


def on_meta(build: Build, classes: int) -> dict[str, Tensor]:
    """Return the state dict of a model, built on torch's meta device, which generates no random weights."""
    try:
        with torch.device("meta"):
            return build(classes).state_dict()
    except NotImplementedError:  # RegNet computes its widths with tensors
        return build(classes).state_dict()


def from_file(config: PipelineConfig, build: Build, classes: int) -> tuple[nn.Module, str]:
    """Return a model of known classes with the weights of a file, and the place of the weights in the file.

    Raises:
        InvalidModel: the file cannot be read, or has no weights that fit the model.
    """
    file = PinnedFile.named(config.weights, "weights")
    named = f"weights: {file} do not fit model: {config.model} with {classes} classes"
    found = find_state(local_path(file), on_meta(build, classes), named=named)
    module = build(classes)
    fill(module, found.state, named=named)
    return module, f"{file}{found}"


def fill(module: nn.Module, state: dict[str, Tensor], *, named: str) -> None:
    """Load the weights of a file into a model; tensors that the file may lack keep their defaults.

    Raises:
        InvalidModel: the weights do not fit; the message begins with `named`.
    """
    defaults = module.state_dict()  # its `_metadata` has the versions of torchvision's modules
    defaults.update(state)
    try:
        module.load_state_dict(defaults)
    except RuntimeError as error:
        raise InvalidModel(f"{named}: {' '.join(str(error).split())}") from error


class LabelledModule(NamedTuple):
    """A detector or segmentation model with its weights, and the names of its classes."""

    module: nn.Module
    labels: tuple[str, ...]
    weights_from: str  # source of the weights, as text for the log
    reference: WeightsEnum  # the weights served; for a file the model's default ones


def load_labelled(config: PipelineConfig, build: Build) -> LabelledModule:
    """Build the model that the configuration names, with its weights, and with as many classes as there are labels.

    Args:
        config: model, weights and labels.
        build: builds the model, without weights, for a number of classes.

    Raises:
        InvalidModel: name, weights and labels do not fit together, or cannot be loaded.
    """
    known = models.get_model_weights(config.model)
    if is_path(config.weights):
        labels = tuple(labels_in(config.labels) if config.labels else known.DEFAULT.meta["categories"])
        module, weights_from = from_file(config, build, len(labels))
        return LabelledModule(module, labels, weights_from, known.DEFAULT)
    reference = named_weights(known, config)
    names = reference.meta["categories"]
    labels = tuple(read_labels(config.labels, len(names), names))
    return LabelledModule(pretrained(config), labels, str(reference), reference)
