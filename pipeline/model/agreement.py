"""Compares the answers of two ways to compute a model."""

from typing import Final

import torch
from torch import Tensor

MAX_SCORE_DIFFERENCE: Final = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""The most by which a score, a probability, may differ: what is folded or fused is rounded differently."""


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """The largest difference between two floats at the same place; NaN where one is.

    Of scores these are the same ranks: two classes that are as good as equal may change places. Whole numbers are
    compared only where there are no floats.

    Args:
        ours: rows of the same images as
        theirs: by another way.
    """
    pairs = [*zip(ours, theirs, strict=True)]
    floats = [(one, other) for one, other in pairs if one.is_floating_point()] or pairs
    return float(torch.stack([(one.double() - other.double()).abs().max().cpu() for one, other in floats]).max())


def noise(images: int, side_px: int, seed: int) -> Tensor:
    """Images by chance: uint8 [images, side_px, side_px, 3] on the CPU, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (images, side_px, side_px, 3), dtype=torch.uint8, generator=generator)
