"""Compares the outputs of two ways to compute a model."""

from typing import Final

import torch
from torch import Tensor

MAX_SCORE_DIFFERENCE: Final = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""Largest allowed difference of a score, a probability: folded or fused operations round differently."""


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """Return the largest difference between two floats at the same position; NaN if one of them is NaN.

    Sorted scores are compared rank by rank, so two classes with almost equal scores may be swapped. Integers are
    compared only if there are no floats.

    Args:
        ours: rows of some images, computed in one way.
        theirs: rows of the same images, computed in another way.
    """
    pairs = [*zip(ours, theirs, strict=True)]
    floats = [(one, other) for one, other in pairs if one.is_floating_point()] or pairs
    return float(torch.stack([(one.double() - other.double()).abs().max().cpu() for one, other in floats]).max())


def noise(images: int, side_px: int, seed: int) -> Tensor:
    """Return random images: uint8 [images, side_px, side_px, 3] on the CPU, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (images, side_px, side_px, 3), dtype=torch.uint8, generator=generator)
