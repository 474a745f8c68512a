"""Finds the cause of NaN in the scores of a model. Only used when a start has failed because of NaN."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from pipeline.model.callable_transform import examples, tried
from pipeline.model.device_module import DTYPES
from pipeline.model.fit_module import device_module
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import ServedModel

_TESTED_IMAGES: Final = 2


def causes(name: str, dtype: str, load: Callable[[], ServedModel], std: Sequence[float]) -> str:
    """Return one sentence with the cause of NaN in the model's scores, and what to do.

    Args:
        name: name of the weights and the model.
        dtype: name of the number format in which the model was computed.
        load: loads the model again, to be computed in float32.
        std: divisors of the pixels.
    """
    fault = f"weights: {name} give scores that are not finite numbers (NaN)"
    anew = load()
    exact = device_module(anew).cpu()  # a given model has been moved to the device
    if first_nonfinite(exact.intake.state_dict()):
        return f"{fault}: std: {[*std]} is too small to divide by in float32; write larger numbers"
    if tensor := first_nonfinite(exact.module.state_dict()):
        return (
            f"{fault}: the tensor {tensor} holds NaN or infinity, as after a training that diverged; take other weights"
        )
    overflow = f"{fault}: the weights are finite, but what the model computes with them overflows; take other weights"
    transform = tried(anew.transform)
    if isinstance(transform, Fit):
        return overflow
    pixels = examples(transform, _TESTED_IMAGES)
    with torch.inference_mode():
        floats = [rows for rows in exact(pixels) if rows.is_floating_point()]
    in_float32 = all(bool(rows.isfinite().all()) for rows in floats)
    if dtype != "float32" and in_float32:
        largest = torch.finfo(DTYPES[dtype]).max
        return f"{fault}: in {dtype} numbers above {largest:g} overflow, in float32 they do not; write dtype: float32"
    return overflow


def first_nonfinite(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; None if all are finite."""
    return next((name for name, value in state.items() if not value.isfinite().all()), None)
