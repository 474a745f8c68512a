"""Loads of the benchmarks: photographs of several sizes, one or many a request."""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from harness.photographs import NAMES, jpeg, photograph

JPEG_QUALITY: Final = 94
RANDOM_SEED: Final = 20
SMALL_PX: Final = (500, 375)
PHONE_PX: Final = (4032, 3024)
MIXED_PX: Final = (SMALL_PX, (1155, 866), (2000, 1500), PHONE_PX)
"""Widths and heights: 0.2, 1, 3 and 12 megapixels."""


@dataclass(frozen=True, slots=True)
class Work:
    """A load: images of some sizes, requests and clients.

    Args:
        title: title in the table.
        sizes_px: widths and heights, with the same number of images each.
        variants: variants of each photograph in each size.
        together: images in one request.
        clients: number of closed-loop clients.
        warm_up_s: seconds until the slowest contestant has reached its rate.
        for_s: seconds of measurement after the warm-up.
    """

    title: str
    sizes_px: tuple[tuple[int, int], ...]
    variants: int
    together: int
    clients: int
    warm_up_s: float = 0.7
    for_s: float = 2.0

    @property
    def images(self) -> Sequence[bytes]:
        """The images as JPEGs, the same in every run."""
        return _cut_outs(self.sizes_px, self.variants)


SMALL_ALONE: Final = Work("500 x 375, one client", (SMALL_PX,), 4, together=1, clients=1)
SMALL: Final = Work("500 x 375, one a request", (SMALL_PX,), 4, together=1, clients=64)
SMALL_MANY: Final = Work("500 x 375, 32 a request", (SMALL_PX,), 4, together=32, clients=8)
PHONE: Final = Work("4032 x 3024, one a request", (PHONE_PX,), 1, together=1, clients=16, warm_up_s=1.5, for_s=3.0)
MIXED: Final = Work("mixed sizes, one a request", MIXED_PX, 1, together=1, clients=32, warm_up_s=1.5, for_s=3.0)


@functools.cache
def _cut_outs(sizes_px: Sequence[tuple[int, int]], variants: int) -> tuple[bytes, ...]:
    """Cut random parts (fixed seed) out of every photograph, and scale them to the sizes in turn."""
    draw = random.Random(RANDOM_SEED)
    return tuple(
        _cut_out(photograph(name), size_px, draw) for _ in range(variants) for name in NAMES for size_px in sizes_px
    )


def _cut_out(image: Image.Image, size_px: tuple[int, int], draw: random.Random) -> bytes:
    across, down = size_px
    share = draw.uniform(0.7, 1.0)
    width = share * min(image.width, image.height * across / down)
    height = width * down / across
    left, upper = draw.uniform(0, image.width - width), draw.uniform(0, image.height - height)
    box = (left, upper, left + width, upper + height)
    return jpeg(image.resize(size_px, Image.Resampling.LANCZOS, box=box), quality=JPEG_QUALITY)
