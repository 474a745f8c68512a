"""Compares the answers of two ways to compute a classifier."""

from typing import Final

import torch
from torch import Tensor

MAX_SCORE_DIFFERENCE: Final = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
"""The most by which a score, a probability, may differ: what is folded or fused is rounded differently."""


def difference(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """The largest difference between two scores of the same rank; NaN where a score is.

    Args:
        ours: scores [n, k] and classes [n, k] of the same images as
        theirs: by another way.
    """
    return float((ours[0] - theirs[0]).abs().max())


def noise(images: int, side_px: int, seed: int) -> Tensor:
    """Images by chance: uint8 [images, side_px, side_px, 3] on the CPU, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (images, side_px, side_px, 3), dtype=torch.uint8, generator=generator)
