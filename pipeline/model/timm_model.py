"""Loads models of timm by name, with weights from a file. Nothing is fetched from a hub."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image
from torch import nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel, first_line
from pipeline.model.catalogue import is_path, no_path
from pipeline.model.checkpoint import State, find_state, head_of
from pipeline.model.chosen_head import classifiers_head
from pipeline.model.fetch import local_path
from pipeline.model.input_size import refusal_of
from pipeline.model.labels import read_labels
from pipeline.model.preset import OVERRIDING_SETTINGS, Preparation, completed
from pipeline.model.served import Preprocess, ServedModel
from pipeline.pinned_file import PinnedFile

PREFIX: Final = "timm:"

_INTERPOLATIONS: Final = ("bilinear", "bicubic", "nearest", "lanczos")
_CHANNELS: Final = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class _AsItIs:
    """timm's own transform, in the place of a `Preparation`."""

    transform: Callable[[Image.Image], Any]
    source: str
    assumed: bool = True


def timm_model(config: PipelineConfig) -> ServedModel:
    """Build the model of timm that the configuration names, with the weights of a file.

    Raises:
        InvalidModel: timm is not installed; or name, weights, labels and sizes do not fit together.
    """
    timm = _timm(config.model)
    name = config.model.removeprefix(PREFIX)
    if not is_path(config.weights):
        raise InvalidModel(f"weights: {no_path(config.weights, config.model)}")
    try:
        template = _untrained(timm, name, 1000)
    except Exception as error:
        raise InvalidModel(f"model: {_no_such_model(timm, name, error)}") from error
    file = PinnedFile.named(config.weights, "weights")
    named = f"weights: {file} do not fit model: {config.model}"
    shapes = _head_last(template)
    found = find_state(local_path(file), shapes, named=named)
    classes = len(found.state[f"{head_of(shapes)}.weight"])
    module: Any = template if classes == 1000 else _untrained(timm, name, classes)
    try:
        module.load_state_dict({**module.state_dict(), **found.state})
    except RuntimeError as error:
        raise InvalidModel(f"{named}: {' '.join(str(error).split())}") from error
    module.eval()
    prepared = _prepared(timm, module, config)
    labels = read_labels(config.labels, classes, _imagenet(timm, classes))
    head, weights_from = classifiers_head(config, labels), f"{file}{found}"
    if config.head == "embed":
        module.reset_classifier(0)
        weights_from += f", without the last layer, {head_of(shapes)}"
    return ServedModel(module, prepared.transform, head, weights_from, prepared.source, prepared.assumed)


def _timm(model: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise InvalidModel(
            f"model: {model} needs timm, which is not installed; type pip install 'darkroom[timm]'"
        ) from error
    return timm


def _untrained(timm: Any, name: str, classes: int) -> nn.Module:
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return module


def _no_such_model(timm: Any, name: str, error: Exception) -> str:
    """Describe why timm does not build a model, with the models that may be meant."""
    names = timm.list_models()
    if timm.is_model(name.partition(".")[0]):
        return f"timm cannot build {name}: {first_line(error)}"
    nearest = difflib.get_close_matches(name.lower(), names, n=3)
    means = f"did you mean {' or '.join(nearest)}?" if nearest else "timm.list_models() lists them"
    return f"timm has no model {name}; {means}"


def _head_last(module: Any) -> State:
    """Return the state dict of a model with its classifier behind all else, as `find_state` expects it."""
    state: State = module.state_dict()
    classifier = module.pretrained_cfg.get("classifier")
    if not isinstance(classifier, str) or f"{classifier}.weight" not in state:
        return state
    last = {name: value for name, value in state.items() if name.startswith(f"{classifier}.")}
    return {name: value for name, value in state.items() if name not in last} | last


def _prepared(timm: Any, module: Any, config: PipelineConfig) -> Preparation | _AsItIs:
    """Return the preprocessing in the configuration, completed by that of timm's own weights of the model.

    Images that are not square, and a crop with a border, are left to timm's own transform.

    Raises:
        InvalidModel: the model does not take such images.
    """
    data = timm.data.resolve_model_data_config(module)
    source = f"timm's {'.'.join(filter(None, (module.pretrained_cfg.get(key) for key in ('architecture', 'tag'))))}"
    channels, height, width = data["input_size"]
    if channels != len(_CHANNELS):
        raise InvalidModel(f"model: {config.model} takes images of {channels} channels; Darkroom has {_CHANNELS}")
    if height != width or data["crop_mode"] not in ("center", "squash") or data["interpolation"] not in _INTERPOLATIONS:
        if set_here := [key for key in OVERRIDING_SETTINGS if getattr(config, key) is not None]:
            raise InvalidModel(
                f"{', '.join(set_here)} cannot be set for model: {config.model}, whose images timm's own transform "
                "prepares; leave them out, or write a function that returns the model, as model: my_module:build"
            )
        return _AsItIs(timm.data.create_transform(**data), source)
    known = Preprocess(
        math.floor(height / data["crop_pct"]),
        height,
        data["interpolation"],
        tuple(data["mean"]),
        tuple(data["std"]),
        squash=data["crop_mode"] == "squash",
    )
    prepared = completed(config, known, source, own=True)
    crop_px = prepared.transform.crop_px
    if crop_px != height and (refusal := refusal_of(module, crop_px)):
        raise InvalidModel(
            f"crop_px: {crop_px} is a size that model: {config.model} does not take ({first_line(refusal)}); it takes "
            f"crop_px: {height}"
        )
    return prepared


def _imagenet(timm: Any, classes: int) -> tuple[str, ...]:
    """Return the names of ImageNet's classes if the model has as many as one of its sets; else nothing."""
    subset = timm.data.infer_imagenet_subset({"num_classes": classes})
    return tuple(timm.data.ImageNetInfo(subset).label_descriptions()) if subset else ()
