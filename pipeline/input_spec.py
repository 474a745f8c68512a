"""Shape and number format of the model's input for one image, as a worker writes it into a slot."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input that the transform makes of every image, and that every slot has space for.

    Attributes:
        shape: shape for one image, without the batch.
        dtype: number format in which it lies in shared memory.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of_pixels(cls, side_px: int) -> Self:
        """Return the spec of square RGB images: uint8 [side_px, side_px, 3]."""
        return cls((side_px, side_px, 3), torch.uint8)

    @classmethod
    def of(cls, batch: Tensor) -> Self:
        """Return the spec of the images in a batch: [n, *shape]."""
        return cls(tuple(batch.shape[1:]), batch.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.shape) * self.dtype.itemsize

    def zeros(self, images: int, device: str = "cpu") -> Tensor:
        """Return a batch of zeros: [images, *shape]."""
        return torch.zeros((images, *self.shape), dtype=self.dtype, device=device)

    def __str__(self) -> str:
        """Describe the spec as in a comment: "float32 [3, 224, 224]"."""
        return f"{str(self.dtype).removeprefix('torch.')} {[*self.shape]}"
