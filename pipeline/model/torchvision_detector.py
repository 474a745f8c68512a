"""Loads torchvision's detectors by name, with torchvision's weights or with those of a file."""

import logging
from functools import partial

from torch import Tensor, nn

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.detect import Detect
from pipeline.model.nonfinite import first_nonfinite
from pipeline.model.resize_to_fit import Fit, refuse_settings
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_weights import load_labelled
from pipeline.torchvision_models import GeneralizedRCNNTransform, models

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})


class _AlreadyResized(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """The first step of torchvision's detectors without its resize, which the decoder processes have done."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def torchvision_detector(config: PipelineConfig) -> ServedModel:
    """Build the torchvision detector that the configuration names.

    Raises:
        InvalidModel: name, weights, labels and sizes do not fit together, or cannot be loaded.
    """
    refuse_settings(config, "a detector")
    loaded = load_labelled(config, partial(_untrained, config.model))
    module = loaded.module
    if broken := first_nonfinite(module.state_dict()):  # such a model finds nothing, and has no score that tells it
        raise InvalidModel(f"weights: {config.weights}: the tensor {broken} holds NaN or infinity; take other weights")
    fit, source = _prepare(module, config), f"model: {config.model}"
    return ServedModel(module, fit, Detect(loaded.labels), loaded.weights_from, source)


def _prepare(module: nn.Module, config: PipelineConfig) -> Fit:
    """Take the resize, and outputs that are not served, out of a detector; return the resize for the workers.

    Raises:
        InvalidModel: the model has one size only, and the configuration sets another.
    """
    theirs: GeneralizedRCNNTransform = module.transform
    lengths = theirs.min_size[-1], theirs.max_size
    module.transform = _AlreadyResized(
        *lengths, theirs.image_mean, theirs.image_std, theirs.size_divisible, fixed_size=theirs.fixed_size
    )
    for part in ("mask", "keypoint"):
        if getattr(getattr(module, "roi_heads", None), f"{part}_roi_pool", None) is not None:
            logger.info("model: %s: its boxes are served, and its %ss are not computed", config.model, part)
            for step in ("roi_pool", "head", "predictor"):
                setattr(module.roi_heads, f"{part}_{step}", None)
    if theirs.fixed_size:
        if config.resize_px:
            raise InvalidModel(
                f"resize_px: {config.resize_px}: model: {config.model} takes images of one size, "
                f"{theirs.fixed_size[0]} x {theirs.fixed_size[1]}; leave resize_px out"
            )
        return Fit(min(theirs.fixed_size), max(theirs.fixed_size), tuple(theirs.fixed_size), "torch", 1)
    min_px = config.resize_px or lengths[0]
    return Fit(min_px, round(min_px * lengths[1] / lengths[0]), None, "torch", theirs.size_divisible)


def _untrained(model: str, classes: int) -> nn.Module:
    module: nn.Module = models.get_model(model, weights=None, weights_backbone=None, num_classes=classes)
    return module
