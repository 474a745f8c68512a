"""Why the scores of a model are NaN: found out when a start has failed for it, never while it serves."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from pipeline.config import PipelineConfig
from pipeline.model.classifier import Classifier, load_model
from pipeline.model.precision import scenes

_TESTED_IMAGES: Final = 2


def causes(config: PipelineConfig, served: Classifier) -> str:
    """One sentence on why the classifier's scores are NaN, and what to do.

    Args:
        config: that the classifier was loaded by; it is loaded again, in float32.
        served: as it was put on its device.
    """
    told = f"weights: {config.weights} of {config.model} give scores that are not finite numbers (NaN)"
    exact = load_model(config.model_copy(update={"dtype": "float32"}))
    if not (exact.classifier.scale.isfinite().all() and exact.classifier.shift.isfinite().all()):
        return f"{told}: std: {list(config.std or ())} is too small to divide by in float32; write larger numbers"
    if name := first_nonfinite(exact.classifier.backbone.state_dict()):
        return f"{told}: the tensor {name} holds NaN or infinity, as after a training that diverged; take other weights"
    dtype = str(served.dtype).removeprefix("torch.")
    pixels = scenes(_TESTED_IMAGES, exact.transform.crop_px)
    with torch.inference_mode():
        in_float32 = bool(exact.classifier.scores(pixels).isfinite().all())
    if dtype != "float32" and in_float32:
        largest = torch.finfo(served.dtype).max
        return f"{told}: in {dtype} numbers above {largest:g} overflow, in float32 they do not; write dtype: float32"
    return f"{told}: the weights are finite, but what the model computes with them overflows; take other weights"


def first_nonfinite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    return next((name for name, value in state.items() if not value.isfinite().all()), None)
