"""Compares the outputs of two ways to compute a model."""

from typing import Final

import torch
from torch import Tensor

from pipeline.input_spec import InputSpec

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


def noise(images: int, spec: InputSpec, seed: int) -> Tensor:
    """Return random inputs: [images, *spec.shape] on the CPU, the same for the same seed.

    Integers have the values of a byte, as far as their format holds them; floats are normal, like normalised pixels.
    """
    generator, shape = torch.Generator().manual_seed(seed), (images, *spec.shape)
    if spec.dtype.is_floating_point or spec.dtype.is_complex:
        return torch.randn(shape, generator=generator).to(spec.dtype)
    end = 2 if spec.dtype is torch.bool else min(256, 1 + torch.iinfo(spec.dtype).max)
    return torch.randint(end, shape, dtype=spec.dtype, generator=generator)
