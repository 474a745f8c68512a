"""The model: name and weights -> one module from uint8 pixels to the best classes, and the transform before it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms._presets import ImageClassification

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.records import Transform

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Classifier(nn.Module):
    """Normalise, backbone and head in one module, so that pixels stay uint8 until they are on the device.

    Args:
        backbone: float [n, 3, side, side] -> logits [n, classes].
        mean: of the pixels in 0..1, per channel.
        std: of the pixels in 0..1, per channel.
        dtype: that the backbone computes in; scores are float32.
        top_k: classes kept, best first; all of them where there are fewer.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype, top_k: int
    ) -> None:
        super().__init__()
        self.backbone = backbone.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype, self.top_k = dtype, top_k
        means, stds = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        self.register_buffer("scale", 1 / (255 * stds))  # (x / 255 - mean) / std in one step
        self.register_buffer("shift", -means / stds)

    def computing_in(self, dtype: torch.dtype) -> Self:
        """A copy of it whose backbone computes in that."""
        other = copy.deepcopy(self)
        other.backbone.to(dtype=dtype)
        other.dtype = dtype
        return other

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The best classes of every image.

        Args:
            pixels: uint8 [n, side, side, 3].

        Returns:
            scores float32 [n, k], softmax probabilities, falling; classes int64 [n, k].
        """
        scores = self.scores(pixels)
        best = scores.topk(min(self.top_k, scores.shape[1]), dim=1)
        return best.values, best.indices

    def scores(self, pixels: Tensor) -> Tensor:
        """Those of all classes: float32 [n, classes]."""
        channels_last = pixels.permute(0, 3, 1, 2)  # [n, 3, side, side] without a copy: that is what channels_last is
        normalised = torch.addcmul(self.shift, channels_last.to(torch.float32), self.scale)
        logits = self.backbone(normalised.to(self.dtype))
        return torch.softmax(logits, dim=1, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to be moved to its device."""

    classifier: Classifier
    labels: tuple[str, ...]
    transform: Transform


def load_model(config: PipelineConfig) -> LoadedModel:
    """Builds the model that the configuration names.

    Raises:
        InvalidModel: name, weights and labels do not fit together, or are not to be had.
    """
    if config.model not in models.list_models(module=models):
        raise InvalidModel(f"model: {config.model} is no classification model of torchvision's")
    known = models.get_model_weights(config.model)
    if Path(config.weights).suffix in (".pth", ".pt", ".safetensors"):
        state = _read_state(Path(config.weights))
        preset_from, classes = _default(known), _classes_of(state, config)
        backbone = _filled(state, classes, config)
    else:
        preset_from = _named(known, config)
        backbone, classes = _pretrained(config), len(preset_from.meta["categories"])
    preset = preset_from.transforms() if preset_from else ImageClassification(crop_size=224)
    return LoadedModel(
        Classifier(
            backbone.eval(),
            config.mean or tuple(preset.mean),
            config.std or tuple(preset.std),
            DTYPES.get(config.dtype, torch.float32),  # auto begins with that
            config.max_top_k,
        ),
        _labels(config, classes, preset_from),
        _transform(config, preset),
    )


def _named(known: type[WeightsEnum], config: PipelineConfig) -> WeightsEnum:
    try:
        return known[config.weights]
    except KeyError:
        names = ", ".join(weights.name for weights in known)
        raise InvalidModel(
            f"weights: {config.weights} are none of {config.model}'s; write {names}, or a path that ends in .pth, .pt "
            "or .safetensors"
        ) from None


def _pretrained(config: PipelineConfig) -> nn.Module:
    try:
        backbone: nn.Module = models.get_model(config.model, weights=config.weights)
    except Exception as error:  # no network; or a damaged file, which raises anything
        folder = Path(torch.hub.get_dir(), "checkpoints")
        raise InvalidModel(
            f"weights: {config.weights} of {config.model} are not in {folder} and cannot be loaded: {error}"
        ) from error
    return backbone


def _default(known: type[WeightsEnum]) -> WeightsEnum | None:
    return getattr(known, "DEFAULT", None)


def _read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, also from inside a training checkpoint."""
    try:
        state: Any = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a damaged pickle raises anything
        raise InvalidModel(f"weights: {path.absolute()} cannot be read as a state dict: {error!r}") from error
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, Mapping) else state
    if not _is_state(state):
        raise InvalidModel(f"weights: {path.absolute()} holds no state dict, but a {type(state).__name__}")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _is_state(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _classes_of(state: Mapping[str, Tensor], config: PipelineConfig) -> int:
    """The size of the last layer: torchvision's models define the head last; files may list it anywhere."""
    head = list(models.get_model(config.model, weights=None).state_dict())[-1]
    classes = state[head].shape[:1].numel() if head in state else 0
    if not classes:
        raise InvalidModel(f"weights: {config.weights} do not fit model: {config.model}: they have no {head}")
    return classes


def _filled(state: Mapping[str, Tensor], classes: int, config: PipelineConfig) -> nn.Module:
    backbone: nn.Module = models.get_model(config.model, weights=None, num_classes=classes)
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise InvalidModel(f"weights: {config.weights} do not fit model: {config.model}: {error}") from error
    return backbone


def _labels(config: PipelineConfig, classes: int, weights: WeightsEnum | None) -> tuple[str, ...]:
    if config.labels is None:
        known = tuple(weights.meta["categories"]) if weights else ()
        return known if len(known) == classes else tuple(f"class {index}" for index in range(classes))
    try:
        labels = tuple(Path(config.labels).read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidModel(f"labels: {config.labels} cannot be read: {error}") from error
    if len(labels) != classes:
        raise InvalidModel(f"labels: {config.labels} has {len(labels)} lines; the model has {classes} classes")
    return labels


def _transform(config: PipelineConfig, preset: ImageClassification) -> Transform:
    crop_px = config.crop_px or int(preset.crop_size[0])
    resize_px = config.resize_px or max(crop_px, int(preset.resize_size[0]))
    if crop_px > resize_px:
        raise InvalidModel(f"crop_px: {crop_px} is larger than resize_px: {resize_px}; write crop_px as well")
    interpolation = config.interpolation or preset.interpolation.value
    return Transform(resize_px, crop_px, interpolation, config.decode, config.formats)
