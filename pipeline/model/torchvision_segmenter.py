"""Loads torchvision's segmentation models by name, with torchvision's weights or with those of a file."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from pipeline.config import PipelineConfig
from pipeline.model.catalogue import is_path
from pipeline.model.resize_to_fit import Fit, refuse_settings
from pipeline.model.segment import Segment
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_weights import load_labelled
from pipeline.torchvision_models import models

_LONGEST_TO_SHORTEST: Final = 4
"""Longest side of an input as a multiple of its shorter side; torchvision's preset has no limit, which memory needs."""


class _Stacked(nn.Module):
    """A segmentation model that takes a list of images, of one size.

    Args:
        module: normalised images [n, 3, height, width] -> dict with the logits `out` [n, classes, height, width].
        mean: mean of the pixels in 0..1, per channel.
        std: standard deviation of the pixels in 0..1, per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        """Return the logits [classes, height, width] of each image, float [3, height, width] in 0..1."""
        logits: Tensor = self.module((torch.stack(images) - self.mean) / self.std)["out"]
        return [*logits]


def torchvision_segmenter(config: PipelineConfig) -> ServedModel:
    """Build the torchvision segmentation model that the configuration names.

    Raises:
        InvalidModel: name, weights, labels and sizes do not fit together, or cannot be loaded.
    """
    refuse_settings(config, "a segmentation model")
    loaded = load_labelled(config, partial(_untrained, config.model))
    module, own = loaded.module, is_path(config.weights)
    if hasattr(module, "aux_classifier"):
        setattr(module, "aux_classifier", None)  # noqa: B010 - mypy knows no such attribute; a second output, which serves the training alone
    preset = loaded.reference.transforms()
    min_px = config.resize_px or int(preset.resize_size[0])
    fit = Fit(min_px, _LONGEST_TO_SHORTEST * min_px, None, "pillow", 1)
    source = f"{loaded.reference}{' (own weights do not say theirs; resize_px overrides it)' if own else ''}"
    stacked = _Stacked(module, preset.mean, preset.std)
    return ServedModel(stacked, fit, Segment(loaded.labels), loaded.weights_from, source, transform_is_assumed=own)


def _untrained(model: str, classes: int) -> nn.Module:
    aux = {} if model.startswith("lraspp") else {"aux_loss": True}
    module: nn.Module = models.get_model(model, weights=None, weights_backbone=None, num_classes=classes, **aux)
    return module
