"""Reads the steps of a user's transform: classes of torchvision (v1 and v2) and timm, nested in any way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import torch
from PIL import Image

from pipeline.model.served import Preprocess
from pipeline.model.step_names import described, does_nothing, name_of

_TORCH_INTERPOLATIONS: Final = ("bilinear", "bicubic")
"""Interpolations for which torchvision resizes a uint8 tensor with the kernel of the fast path."""

_WHITE: Final = 255.0


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A transform that runs as it is.

    Attributes:
        reason: a clause for the log, e.g. "GaussianBlur is not a step of the fast path".
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Recognised:
    """A transform that reads like the usual four steps.

    Attributes:
        preprocess: the same steps for the fast path.
        resizes_tensors: whether the resize gets a uint8 tensor, for which torchvision uses torch's kernel, instead of a
            picture, for which it uses Pillow's.
    """

    preprocess: Preprocess
    resizes_tensors: bool = False


class _Unusual(Exception):
    """A step that the fast path does not do; the message is the reason."""


def read_steps(transform: object) -> Recognised | Unrecognised:
    """Read a transform without running it.

    A step counts only if its class is one of torchvision's or timm's own; a function only if its code does nothing to
    an RGB picture.
    """
    reader = _Reader()
    try:
        reader.take(transform)
        return reader.result()
    except _Unusual as unusual:
        return Unrecognised(str(unusual))
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # settings of a step that its class has not checked
        return Unrecognised(f"its steps cannot be read: {error}")


class _Reader:
    """Takes one step after another, and keeps the settings of those that it knows."""

    def __init__(self) -> None:
        self._held = "picture"  # input of the next step: "picture", "bytes" (a uint8 tensor) or "floats"
        self._white = 1.0  # value in `floats` of 255 in `bytes`
        self._resize_px, self._interpolation, self._squash = 0, "", False
        self._resizes_tensors = False
        self._crop_px = 0
        self._normalise: tuple[list[float], list[float]] | None = None  # mean and std

    def take(self, step: Any) -> None:
        """Read one step, with all steps in it.

        Raises:
            _Unusual: the fast path does not do this step.
        """
        match name_of(step):
            case "Compose":
                self._take_all(step.transforms)
            case "Sequential":
                self._take_all(step)
            case "Identity" | "RGB" | "ToPureTensor" | "nothing":
                pass
            case "Lambda" if does_nothing(step.lambd):
                pass
            case "Lambda":
                _refuse(step.lambd)
            case "Resize":
                self._take_resize(step)
            case "CenterCrop":
                self._take_crop(_sides(step.size))
            case "PILToTensor" | "ToImage" | "timm MaybePILToTensor":
                self._held = "bytes" if self._held == "picture" else self._held
            case "ToTensor" | "timm MaybeToTensor":
                self._to_floats(torch.get_default_dtype(), white=1.0)
            case "timm ToTensor":
                self._to_floats(step.dtype, white=_WHITE)
            case "ConvertImageDtype":
                self._to_floats(step.dtype, white=1.0)
            case "ToDtype":
                self._to_floats(step.dtype, white=1.0 if step.scale else _WHITE)
            case "Normalize":
                self._take_normalise(step)
            case "ImageClassification":
                self._take_preset(step)
            case _:
                _refuse(step)

    def result(self) -> Recognised:
        """Return the steps as settings of the fast path.

        Raises:
            _Unusual: a step is missing.
        """
        if not self._resize_px:
            raise _Unusual("it has no Resize")
        if not self._crop_px and not self._squash:
            raise _Unusual(f"it has no CenterCrop, and Resize({self._resize_px}) alone keeps proportions")
        if self._held != "floats":
            raise _Unusual("it returns uint8, as no step converts the pixels to float32")
        sizes = self._resize_px, self._crop_px or self._resize_px, self._interpolation
        mean, std = (_scaled(values, self._white) for values in self._normalise or ([0.0] * 3, [1.0] * 3))
        return Recognised(Preprocess(*sizes, mean, std, squash=self._squash), self._resizes_tensors)

    def _take_all(self, steps: Iterable[Any]) -> None:
        for step in steps:
            self.take(step)

    def _take_preset(self, step: Any) -> None:
        self._set_resize(step.resize_size, step.interpolation)
        self._take_crop(_sides(step.crop_size))
        self._to_floats(torch.float32, white=1.0)
        self._take_normalise(step)

    def _take_resize(self, step: Any) -> None:
        if self._resize_px:
            raise _Unusual("it resizes twice")
        if self._held == "floats":
            raise _Unusual("it resizes floats; put Resize before the conversion to floats")
        if step.max_size is not None:
            raise _Unusual(f"Resize has max_size={step.max_size}")
        self._set_resize(step.size, step.interpolation)
        if self._held == "bytes":
            if not step.antialias or self._interpolation not in _TORCH_INTERPOLATIONS:
                way = f"{self._interpolation}, antialias={step.antialias}"
                raise _Unusual(f"it resizes a tensor ({way}); put Resize before the conversion to a tensor")
            self._resizes_tensors = True

    def _set_resize(self, size: Any, interpolation: Any) -> None:
        sides = _sides(size)
        if len({*sides}) != 1:
            raise _Unusual(f"Resize({list(sides)}) is not square")
        self._resize_px, self._squash = sides[0], len(sides) == 2
        self._interpolation = _interpolation_name(interpolation)

    def _take_crop(self, sides: tuple[int, ...]) -> None:
        if not self._resize_px or self._crop_px:
            raise _Unusual("it crops twice" if self._crop_px else "it crops before it resizes")
        if len({*sides}) != 1:
            raise _Unusual(f"CenterCrop({list(sides)}) is not square")
        if sides[0] > self._resize_px:
            raise _Unusual(f"CenterCrop({sides[0]}) is larger than Resize({self._resize_px}) and so adds a border")
        self._crop_px = sides[0]

    def _to_floats(self, dtype: Any, *, white: float) -> None:
        if dtype is not torch.float32:
            raise _Unusual(f"it converts the pixels to {dtype}, not to torch.float32")
        if self._held != "floats":
            self._held, self._white = "floats", white

    def _take_normalise(self, step: Any) -> None:
        if self._normalise:
            raise _Unusual("it normalises twice")
        self._normalise = _of_channels(step.mean), _of_channels(step.std)


def _refuse(step: object) -> NoReturn:
    raise _Unusual(f"{described(step)} is not a step of the fast path")


def _sides(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(int(side) for side in size)


def _interpolation_name(interpolation: Any) -> str:
    """Return Pillow's name for an interpolation given as torchvision's enum, as its text, or as Pillow's number."""
    if isinstance(interpolation, int):
        return Image.Resampling(interpolation).name.lower()
    name = str(getattr(interpolation, "value", interpolation))
    name = "nearest" if name == "nearest-exact" else name  # the same in Pillow
    return Image.Resampling[name.upper()].name.lower()


def _of_channels(values: Any) -> list[float]:
    """Return one number for each of three channels; a single one counts for all."""
    numbers = [float(value) for value in np.ravel(np.asarray(values, dtype=float))]
    if len(numbers) not in (1, 3):
        raise _Unusual(f"Normalize has {len(numbers)} channels")
    return numbers * 3 if len(numbers) == 1 else numbers


def _scaled(values: Sequence[float], white: float) -> tuple[float, ...]:
    """Return values for pixels in 0..1, written as short as float32 allows: 0.485, not 0.48500001430511475."""
    return tuple(float(str(np.float32(value / white))) for value in values)
