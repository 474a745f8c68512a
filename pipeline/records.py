"""What travels through the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.errors import ImageError


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as the client sent it."""

    data: bytes  # a JPEG, PNG, ... file


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Where the time of one image went, in seconds. Stages that it did not reach are 0."""

    queue_s: float = 0.0  # waiting for a worker
    decode_s: float = 0.0  # bytes -> uint8 pixels
    wait_s: float = 0.0  # decoded, waiting for the device
    device_s: float = 0.0  # copy, model and copy back of its batch


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best classes of one image, best first; the three sequences have the same length."""

    labels: tuple[str, ...]
    indices: tuple[int, ...]
    scores: tuple[float, ...]  # softmax probabilities in 0..1, over all classes
    timings: StageTimings = field(default=StageTimings(), compare=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one image has no prediction."""

    error: ImageError
    timings: StageTimings = field(default=StageTimings(), compare=False)


Outcome = Prediction | Rejection


@dataclass(frozen=True, slots=True)
class Transform:
    """What a worker does with an image: resize the shorter side, then crop the centre square."""

    resize_px: int
    crop_px: int
    interpolation: str  # a name of PIL.Image.Resampling, in lower case
    decode: str  # "fast" | "exact"
    formats: tuple[str, ...]  # names of Pillow's formats


@dataclass(frozen=True, slots=True)
class HostBatch:
    """Decoded images in adjacent slots, page-locked where there is CUDA."""

    first: int  # number of the slot of the first image
    pixels: torch.Tensor  # uint8 [n, crop_px, crop_px, 3], a view of shared memory, no copy
    errors: Mapping[int, ImageError] = field(default_factory=dict)  # images left out, by position in their job

    def __post_init__(self) -> None:
        """Checks the shape once, where it is made."""
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[-1] != 3:
            shape = [*self.pixels.shape]
            raise ValueError(f"pixels must be uint8 [n, height, width, 3], not {self.pixels.dtype} {shape}")

    def __len__(self) -> int:
        """Number of images."""
        return self.pixels.shape[0]

    def adjoins(self, following: "HostBatch") -> bool:
        """Whether `following` begins in memory where this batch ends, so that one copy can take both."""
        return self.first + len(self) == following.first

    def joined(self, following: "HostBatch") -> "HostBatch":
        """One view over this batch and the one that it adjoins."""
        shape = (len(self) + len(following), *self.pixels.shape[1:])
        return HostBatch(self.first, self.pixels.as_strided(shape, self.pixels.stride()))
