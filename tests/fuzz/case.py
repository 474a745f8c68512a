"""A fuzzing case: a mutated file and its transform, both determined by a seed and a number."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pipeline.records import Transform
from tests.fuzz.mutations import mutated
from tests.fuzz.seed_files import FAMILIES, Seed

_SIDES_PX: Final = (7, 8, 16, 32, 60, 200)
"""Shorter sides after the resize, from so small ones that pictures are decoded at 1/8."""
_INTERPOLATIONS: Final = ("bilinear", "bilinear", "bicubic", "nearest", "lanczos")
_IN_BOTH_MODES: Final = 4
"""One case in this many is decoded in both modes."""


@dataclass(frozen=True, slots=True)
class FuzzCase:
    """A file, and the transforms that decode it."""

    seed: Seed
    data: bytes
    transforms: tuple[Transform, ...]


def case(number: int, seed: int, seeds: Sequence[Seed]) -> FuzzCase:
    """Return the case with this number, the same on every machine."""
    rng = random.Random(f"{seed}:{number}")
    origin, data = mutated(rng, seeds)
    resize_px = rng.choice(_SIDES_PX)
    fast = Transform(
        resize_px, max(1, resize_px - rng.choice((0, 1, 3))), rng.choice(_INTERPOLATIONS), "fast", FAMILIES
    )
    exact = replace(fast, decode="exact")
    both = (fast, exact) if not number % _IN_BOTH_MODES else (rng.choice((fast, fast, exact)),)
    return FuzzCase(origin, data, both)
