"""Chooses the preprocessing of a model: from the configuration, else from torchvision's weights."""

from dataclasses import dataclass, replace

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.model.served import Preprocess
from pipeline.torchvision_models import ImageClassification, WeightsEnum

OVERRIDING_SETTINGS = ("resize_px", "crop_px", "interpolation", "mean", "std")
"""Settings of the configuration that override those of the weights."""

USUAL_VALUES = "ImageNet's usual values"
"""Source of a preprocessing for which there is no other."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """The preprocessing of an image, and its source.

    Attributes:
        source: source of the sizes and numbers, as text for the log.
        assumed: whether some of them are taken from other weights, as the user's own weights do not include theirs.
    """

    transform: Preprocess
    source: str
    assumed: bool

    def __str__(self) -> str:
        """Describe all settings and their source in one line."""
        return f"{self.transform}, from {self.source}"


def prepared_by(config: PipelineConfig, weights: WeightsEnum | None, *, own: bool) -> Preparation:
    """Return the preprocessing in the configuration, completed by that of torchvision's weights.

    Args:
        config: its settings come first.
        weights: torchvision's weights: those that are served, or for the user's own weights the model's default ones.
        own: whether the weights are the user's own, which do not include their preprocessing.

    Raises:
        InvalidModel: the sizes do not fit together.
    """
    preset = weights.transforms() if weights else ImageClassification(crop_size=224)
    known = Preprocess(
        int(preset.resize_size[0]),
        int(preset.crop_size[0]),
        preset.interpolation.value,
        tuple(preset.mean),
        tuple(preset.std),
    )
    return completed(config, known, str(weights) if weights else USUAL_VALUES, own=own)


def completed(config: PipelineConfig, known: Preprocess, source: str, *, own: bool) -> Preparation:
    """Return the preprocessing in the configuration, completed by one that is known from elsewhere.

    Args:
        config: its settings come first.
        known: the other preprocessing.
        source: its source, as text.
        own: whether it is assumed, since the user's own weights do not include theirs.

    Raises:
        InvalidModel: the sizes do not fit together.
    """
    crop_px = config.crop_px or known.crop_px
    resize_px = config.resize_px or max(crop_px, known.resize_px)
    if crop_px > resize_px:
        raise InvalidModel(f"crop_px: {crop_px} is larger than resize_px: {resize_px}; write crop_px as well")
    set_here = [key for key in OVERRIDING_SETTINGS if getattr(config, key) is not None]
    assumed = own and len(set_here) < len(OVERRIDING_SETTINGS)
    transform = replace(
        known,
        resize_px=resize_px,
        crop_px=crop_px,
        interpolation=config.interpolation or known.interpolation,
        mean=config.mean or known.mean,
        std=config.std or known.std,
    )
    return Preparation(transform, _source(source, set_here, assumed=assumed), assumed)


def _source(weights: str, set_here: list[str], *, assumed: bool) -> str:
    if len(set_here) == len(OVERRIDING_SETTINGS):
        return "the configuration"
    source = f"{', '.join(set_here)} from the configuration, all else from {weights}" if set_here else weights
    if assumed:
        source += f" (own weights do not say theirs; {', '.join(OVERRIDING_SETTINGS)} override it)"
    return source
