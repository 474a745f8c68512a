"""Runs a transform of the user's own on a decoded image, in the workers and for the tests of a start."""

import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.errors import TransformFailed, first_line
from pipeline.input_spec import InputSpec
from pipeline.users_code import place_of, users_traceback

_OUT_OF_MEMORY = "can't allocate memory"
"""Part of torch's message when memory runs out on the CPU; its class is RuntimeError."""


class UsersTransform:
    """A transform of the user's own, which must return a tensor of one shape and number format.

    Args:
        function: upright RGB picture -> tensor, or numpy array.
        spec: shape and number format of the tensor.

    Attributes:
        took_ns: time that the last call took.
    """

    def __init__(self, function: Callable[[Image.Image], Any], spec: InputSpec) -> None:
        self._function, self._spec, self.took_ns = function, spec, 0

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the model's input: [*shape].

        Raises:
            TransformFailed: the transform raises, or returns something else.
            MemoryError: memory runs out.
        """
        began_ns = time.monotonic_ns()
        try:
            made = as_tensor(self._function(image))
        except Exception as error:
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY in str(error):
                raise MemoryError from error
            raise TransformFailed(
                f"the transform fails on the image: {first_line(error)}{_in_file(error)}", users_traceback(error)
            ) from error
        finally:
            self.took_ns = time.monotonic_ns() - began_ns
        if (found := InputSpec.of(made[None])) != self._spec:
            raise TransformFailed(f"the transform returns {found} for the image, and the model takes {self._spec}")
        return made


def as_tensor(made: Any) -> Tensor:
    """Return the result of a transform as a tensor; a numpy array becomes a tensor of the same shape and format.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(made, Tensor):
        return made.detach()
    if isinstance(made, np.ndarray):
        return torch.from_numpy(np.require(made, requirements=["C", "W"]))
    raise TypeError(f"the transform must return a tensor or a numpy array, and returns a {type(made).__name__}")


def _in_file(error: Exception) -> str:
    """Name the user's file and line, without the folder, which is none of a client's business."""
    place = place_of(error)
    return f" ({PurePath(place).name})" if place else ""
