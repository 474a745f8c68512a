"""A transform that is any callable: tried on test images at the start, then run as it is in the workers."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.images.users_transform import UsersTransform, as_tensor
from pipeline.input_spec import InputSpec
from pipeline.model.precision import scenes
from pipeline.model.resize_to_fit import Fit
from pipeline.model.served import Preprocess
from pipeline.records import UserTransform
from pipeline.users_code import in_place, place_of_function, users_traceback

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

Function = Callable[[Image.Image], Any]
"""The user's own transform: upright RGB picture -> tensor or numpy array."""

_TEST_SIZES: Final = ((320, 240), (240, 320), (1280, 960), (80, 60))
"""Widths and heights of test pictures, the usual ones first."""


@dataclass(frozen=True)
class CallableTransform:
    """A callable with the shape and number format of what it returns, and its pickled form for the workers."""

    function: Function
    input_spec: InputSpec
    pickled: bytes
    picture_size: tuple[int, int]  # width and height of a picture that it takes

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the model's input of an upright RGB picture: [*shape]."""
        return as_tensor(self.function(image))

    def __str__(self) -> str:
        """Describe the transform in one line."""
        return f"{name_of(self.function)}, run as it is, which returns {self.input_spec}"

    def in_this_process(self) -> UsersTransform:
        """Return the function as `decode_image` calls it."""
        return UsersTransform(self.function, self.input_spec)

    def in_workers(self, config: PipelineConfig) -> UserTransform:
        """Return the steps of the decoder processes, with the configuration's formats and background."""
        return UserTransform(
            name_of(self.function),
            self.pickled,
            config.formats,
            config.background,
            blank_size=self.picture_size,
        )


def tried(transform: Preprocess | Fit | Function) -> Preprocess | Fit | CallableTransform:
    """Run a callable on test pictures; return it with its shape and number format. Other transforms stay as they are.

    Raises:
        InvalidModel: it raises, returns no tensor, returns tensors of several shapes, or cannot be pickled.
    """
    if isinstance(transform, Preprocess | Fit | CallableTransform):
        return transform
    made = dict(_tensors(transform))
    specs = {size: InputSpec.of(tensor[None]) for size, tensor in made.items()}
    first, spec = next(iter(specs.items()))
    for size, other in specs.items():
        if other != spec:
            raise InvalidModel(
                f"transform: {_named(transform)} returns {spec} for a picture of {_in_words(first)} pixels and {other} "
                f"for one of {_in_words(size)}; a model takes inputs of one shape: end the transform's resize with "
                "CenterCrop(224), or write Resize((224, 224))"
            )
    if not spec.shape or spec.nbytes == 0:
        raise InvalidModel(f"transform: {_named(transform)} returns {spec}, which holds no picture")
    _warn_if_random(transform, made[first], first)
    return CallableTransform(transform, spec, _pickled(transform), first)


def _tensors(transform: Function) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield size and result of every test picture that the transform takes; all sizes may be refused but one."""
    refusals = list[Exception]()
    for size in _TEST_SIZES:
        try:
            yield size, _run(transform, picture(*size))
        except Exception as error:  # noqa: BLE001 - the user's code raises anything
            refusals.append(error)
            told = in_place(error), _in_words(size), _trace(error)
            logger.warning("transform: %s on a picture of %s pixels\n%s", *told)
    if len(refusals) == len(_TEST_SIZES):
        raise InvalidModel(
            f"transform: {_named(transform)} fails on a test picture of {_in_words(_TEST_SIZES[0])} pixels: "
            f"{in_place(refusals[0])}"
        ) from refusals[0]


def _run(transform: Function, image: Image.Image) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision warns of settings without effect
        return as_tensor(transform(image))


def _warn_if_random(transform: Function, made: Tensor, size: tuple[int, int]) -> None:
    if not torch.equal(_run(transform, picture(*size)), made):
        logger.warning(
            "transform: %s returns another tensor each time for the same picture: is it the one for training?",
            _named(transform),
        )


def _pickled(transform: Function) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(transform))
    except Exception as error:
        raise InvalidModel(
            f"transform: {_named(transform)} cannot be sent to the decoder processes: {in_place(error)}; it may "
            "hold no lock, open file or database: make those at its first call"
        ) from error


def examples(transform: Preprocess | CallableTransform, images: int) -> Tensor:
    """Return inputs like those of photographs: [images, *shape]."""
    if isinstance(transform, Preprocess):
        return scenes(images, transform.crop_px)
    width, height = transform.picture_size
    pictures = scenes(images, max(width, height)).numpy()
    return torch.stack([_run(transform, Image.fromarray(each[:height, :width].copy())) for each in pictures])


def picture(width: int, height: int) -> Image.Image:
    """Return an RGB picture like a photograph, the same each time."""
    scene = scenes(1, min(width, height))[0].numpy()
    repeats = (-(-height // len(scene)), -(-width // len(scene)), 1)
    return Image.fromarray(np.ascontiguousarray(np.tile(scene, repeats)[:height, :width]))


def name_of(function: Function) -> str:
    """Return a name for a callable: that of its function, or of its class."""
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _named(function: Function) -> str:
    """Return name and place of a callable: "make_transform.<locals>.<lambda> (in model.py:12)"."""
    inner = function.func if isinstance(function, functools.partial) else function
    place = place_of_function(inner) or place_of_function(type(inner).__call__)
    return f"{name_of(function)} (in {place})" if place else name_of(function)


def _in_words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _trace(error: Exception) -> str:
    return users_traceback(error) or f"{type(error).__name__}: {error}"
