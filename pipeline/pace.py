"""How fast the stages work, as measured: which batches pay, and how long what waits will take."""

from collections.abc import Mapping
from typing import Final

import numpy as np

_WORTH: Final = 0.05
_WEIGHT: Final = 0.1


class DevicePace:
    """What a device takes for a batch: as the warm-up measured it, times how much slower batches have been lately.

    Args:
        seconds: of one batch of each size, none of them 0.
    """

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self._sizes = sorted(seconds)
        self._seconds = [seconds[size] for size in self._sizes]
        self._slowdown = 1.0

    @property
    def paying_batch(self) -> int:
        """The smallest size that is within 5 % of the most images a second.

        On a GPU that is often the largest; on a CPU large batches are slower per image, and every neighbour waits.
        """
        rates = [size / taken for size, taken in zip(self._sizes, self._seconds, strict=True)]
        return next(size for size, rate in zip(self._sizes, rates, strict=True) if rate >= (1 - _WORTH) * max(rates))

    def note(self, images: int, seconds: float) -> None:
        """Takes a batch into account that the device has just computed."""
        self._slowdown += _WEIGHT * (seconds / self._warm(images) - self._slowdown)

    def seconds_for(self, images: int, batch: int) -> float:
        """Seconds that so many images take, in batches of `batch` and one of the rest."""
        whole, rest = divmod(images, batch)
        return self._slowdown * (whole * self._warm(batch) + (self._warm(rest) if rest else 0.0))

    def _warm(self, images: int) -> float:
        """Seconds of a batch of any size when all was quiet, between the sizes that were measured."""
        return float(np.interp(images, self._sizes, self._seconds))


class DecodePace:
    """What one worker takes for an image, lately."""

    def __init__(self) -> None:
        self.seconds_per_image = 0.0

    def note(self, seconds: float) -> None:
        """Takes an image into account that has just been decoded; the first one stands for all before it."""
        self.seconds_per_image += (_WEIGHT if self.seconds_per_image else 1.0) * (seconds - self.seconds_per_image)
