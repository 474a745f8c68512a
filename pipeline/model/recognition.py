"""Recognises the usual four steps in a user's transform, and compares both on test images.

A transform that reads like the four steps takes the fast path only if both give the same numbers. They can: torchvision
resizes pictures with Pillow, as `decode: exact` does, and all else is copying, and float arithmetic.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.config import PipelineConfig
from pipeline.images.geometry import target_size
from pipeline.images.resize import CropPlan, resize_exact, resize_fast
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import noise
from pipeline.model.precision import scenes
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import Preprocess, ServedModel
from pipeline.model.step_names import described
from pipeline.model.transform_steps import Recognised, Unrecognised, read_steps

MAX_LEVELS: Final = 0.01
"""Largest allowed difference of a value, in levels of 255 before it is normalised: 0.01 / (255 * std) of the tensor.

Float32 rounds to about 0.0001 levels. The least difference of pixels is one level, and 0.5 before it is rounded.
"""

_SCENE_PX: Final = 256
"""Side of the scene that test images are cut from; larger images repeat it."""

_EXACT_ON_TENSORS: Final = (
    "it resizes a tensor, which torch rounds otherwise than Pillow; with decode: exact, put Resize before the "
    "conversion to a tensor"
)


def on_fast_path(served: ServedModel, decode: str) -> ServedModel:
    """Return a model with its transform replaced by the same settings of the fast path, if it is recognised.

    Its `transform_from` says so, or why the transform runs as it is. May be called again.

    Args:
        served: a model; one that has a `Preprocess` or `Fit` stays as it is.
        decode: "fast" or "exact".
    """
    transform: Any = served.transform
    if isinstance(transform, Preprocess | Fit):
        return served
    found = recognised(transform, decode)
    if isinstance(found, Unrecognised):
        told = f", which runs as it is: {found.reason}"
        return replace(served, transform_from=served.transform_from.removesuffix(told) + told)
    origin = f"{served.transform_from}, recognised in {described(transform)}"
    return replace(served, transform=found, transform_from=origin)


def recognised(transform: Callable[[Image.Image], Any], decode: str) -> Preprocess | Unrecognised:
    """Return the settings with which the fast path does the same as a transform, or the reason why it cannot.

    Args:
        transform: the user's own: an upright RGB picture -> a tensor.
        decode: "exact" or "fast". A resize of uint8 tensors is only done by `fast`, which uses the same kernel.
    """
    found = read_steps(transform)
    if isinstance(found, Unrecognised):
        return found
    if found.resizes_tensors and decode == "exact":
        return Unrecognised(_EXACT_ON_TENSORS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision warns of settings without effect
        disagreement = next(_disagreements(transform, found), None)
    return Unrecognised(disagreement) if disagreement else found.preprocess


def _disagreements(transform: Callable[[Image.Image], Any], found: Recognised) -> Iterator[str]:
    """Yield a clause for each test image for which a transform does not give the expected tensor."""
    for image in images_to_compare(found.preprocess.resize_px):
        size = f"on a test image of {image.width} x {image.height} pixels"
        try:
            given = transform(image.copy())
        except Exception as error:  # noqa: BLE001 - the user's code raises anything
            yield f"it raises {type(error).__name__} {size}: {error}"
            continue
        expected = expected_tensor(image, found)
        if not isinstance(given, Tensor) or (given.dtype, given.shape) != (expected.dtype, expected.shape):
            yield f"it returns {_kind(given)} {size}, and its steps read like {_kind(expected)}"
            continue
        std = torch.tensor(found.preprocess.std).view(3, 1, 1)
        levels = float(((given - expected) * std).abs().max()) * 255
        if not levels <= MAX_LEVELS:  # NaN too
            yield f"it differs from its steps by up to {levels:.3g} of 255 levels {size}"


def expected_tensor(image: Image.Image, found: Recognised) -> Tensor:
    """Compute what a recognised transform returns for a picture: float32 [3, crop_px, crop_px]."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (found.preprocess.mean, found.preprocess.std))
    pixels = torch.from_numpy(np.array(_cropped(image, found))).permute(2, 0, 1)
    return (pixels.float() / 255 - mean) / std


def _cropped(image: Image.Image, found: Recognised) -> NDArray[np.uint8]:
    """Resize and crop as the workers do: uint8 [crop_px, crop_px, 3]."""
    transform = found.preprocess.in_workers(PipelineConfig())
    if not found.resizes_tensors:
        return np.asarray(resize_exact(image, transform))
    target = target_size(*image.size, transform)
    left, top = (round((length - transform.crop_px) / 2) for length in target)
    return resize_fast(np.array(image), CropPlan(image.size, target, left, top), transform)


def images_to_compare(resize_px: int) -> Iterator[Image.Image]:
    """Yield RGB pictures that a resize enlarges, leaves and reduces: scenes, noise, and one colour.

    Args:
        resize_px: shorter side after the resize; the sizes depend on it.
    """
    scene, random = scenes(1, _SCENE_PX)[0].numpy(), noise(1, InputSpec.of_pixels(_SCENE_PX), seed=0)[0].numpy()
    yield _cut(scene, 2 * resize_px + 93, resize_px + 21)  # landscape
    yield _cut(scene, resize_px + 1, 2 * resize_px - 5)  # portrait, one pixel more than the target
    yield _cut(random, 2 * resize_px + 1, 2 * resize_px + 1)
    yield _cut(scene, resize_px // 2 + 1, resize_px // 3 + 1)
    yield _cut(random, resize_px, resize_px)
    yield Image.new("RGB", (resize_px + 40, resize_px // 2 + 1), (12, 130, 251))


def _cut(pixels: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """Return a picture of a size, made of repeated pixels."""
    repeats = (-(-height // pixels.shape[0]), -(-width // pixels.shape[1]), 1)
    return Image.fromarray(np.ascontiguousarray(np.tile(pixels, repeats)[:height, :width]))


def _kind(value: object) -> str:
    return f"{value.dtype} {[*value.shape]}" if isinstance(value, Tensor) else type(value).__name__
