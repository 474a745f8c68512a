"""How fast the stages work, as measured: which batches pay, and how long what waits will take."""

import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from pipeline.config import USUAL_PRICE_S

_WORTH: Final = 0.05
_WEIGHT: Final = 0.1
_MEASURED_S: Final = 0.2
_OUTLIER: Final = 4.0


def warm_seconds(compute: Callable[[], object]) -> float:
    """Seconds of a call that is not the first: the least of three, of fewer where they are long."""
    compute()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < _MEASURED_S:
        started_at = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - started_at)
    return min(seconds)


class DevicePace:
    """What a device takes for a batch: as the warm-up measured it, times how much slower batches have been lately.

    Args:
        seconds: of one batch of each size, none of them 0.
        padded: whether a batch between two of these sizes costs what the larger does, as it is filled up to it.
    """

    def __init__(self, seconds: Mapping[int, float], *, padded: bool = False) -> None:
        sizes = sorted(seconds)
        rates = {size: size / seconds[size] for size in sizes}
        self.paying_batch = next(size for size in sizes if rates[size] >= (1 - _WORTH) * max(rates.values()))
        """The smallest size that is within 5 % of the most images a second.

        On a GPU that is often the largest; on a CPU large batches are slower per image, and every neighbour waits.
        """
        # Seconds of a batch of any size when all was quiet; between the sizes that were measured, between their times.
        images = range(1, sizes[-1] + 1)
        if padded:
            self._warm = [0.0, *(seconds[next(size for size in sizes if size >= count)] for count in images)]
        else:
            self._warm = [0.0, *np.interp(images, sizes, [seconds[size] for size in sizes]).tolist()]
        self._slowdown = 1.0

    def note(self, images: int, seconds: float) -> None:
        """Takes a batch into account that the device has just computed."""
        self._slowdown += _WEIGHT * (seconds / self._warm[images] - self._slowdown)

    def seconds_for(self, images: int, batch: int) -> float:
        """Seconds that so many images take, in batches of `batch` and one of the rest."""
        whole, rest = divmod(images, batch)
        return self._slowdown * (whole * self._warm[batch] + self._warm[rest])


class DecodePace:
    """Seconds that workers lately took for each second of the price of an image.

    Prices are those of one machine; on another one, or beside others who want its cores, all take longer.
    """

    def __init__(self) -> None:
        self._took_s = self._price_s = USUAL_PRICE_S  # averages, of images at their price to begin with

    @property
    def ratio(self) -> float:
        """By how much images take longer than their price."""
        return self._took_s / self._price_s

    @property
    def usual_price_s(self) -> float:
        """Price of an image of which nothing is known: that of a small photograph, or of those of late."""
        return min(USUAL_PRICE_S, self._price_s)

    def note(self, took_s: float, price_s: float) -> None:
        """Takes an image into account that has just been decoded; one that is beyond all measure as a slow one."""
        took_s = min(took_s, _OUTLIER * self.ratio * price_s)
        self._took_s += _WEIGHT * (took_s - self._took_s)
        self._price_s += _WEIGHT * (price_s - self._price_s)
