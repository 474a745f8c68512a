"""Decoded images on their way from the workers to the device."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.errors import ImageError


@dataclass(frozen=True, slots=True)
class HostBatch:
    """Decoded images in adjacent slots, page-locked where there is CUDA."""

    first: int  # number of the slot of the first image
    pixels: torch.Tensor  # uint8 [n, crop_px, crop_px, 3], a view of shared memory, no copy
    errors: Mapping[int, ImageError] = field(default_factory=dict)  # images left out, by position in their job
    skipped: frozenset[int] = frozenset()  # likewise, because another worker has them

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
