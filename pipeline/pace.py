"""How fast the stages work, as measured: which batches pay, and how long what waits will take."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from pipeline.config import USUAL_PRICE_S

_MAX_THROUGHPUT_LOSS: Final = 0.05
_MAX_MEASURING_S: Final = 0.2
_MAX_SLOWDOWN_NOTED: Final = 4.0

_FORGETTING_TIME_S: Final = 2.0
"""Seconds after which a measurement counts for 1 / e: long against one batch, short against a load."""

_MIN_REMEMBERED_WORK_S: Final = 0.1
"""Seconds of work that are remembered however long ago they were, so that no single image decides."""


def warm_seconds(compute: Callable[[], object]) -> float:
    """Seconds of a call that is not the first: the least of three, of fewer where they are long."""
    compute()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < _MAX_MEASURING_S:
        started_at = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - started_at)
    return min(seconds)


class Slowdown:
    """Seconds that work lately took for each second that it should take.

    It is a ratio of sums, so that long work counts for more, and it forgets by the clock: a burst is foreseen from what
    came in the last two seconds, or from what came last where that was longer ago.

    Args:
        expected_s: of each piece of work, until some has been noted.
    """

    def __init__(self, expected_s: float = _MIN_REMEMBERED_WORK_S) -> None:
        self._took_s = self._expected_s = _MIN_REMEMBERED_WORK_S
        self._pieces = _MIN_REMEMBERED_WORK_S / expected_s
        self._noted_at = time.monotonic()

    @property
    def ratio(self) -> float:
        """By how much work takes longer than it should."""
        return self._took_s / self._expected_s

    @property
    def mean_expected_s(self) -> float:
        """Seconds that a piece of it should take."""
        return self._expected_s / self._pieces

    def note(self, took_s: float, expected_s: float) -> None:
        """Takes a piece of work into account that has just ended; one that is beyond all measure as a slow one."""
        now = time.monotonic()
        kept = min(
            1.0, max(math.exp((self._noted_at - now) / _FORGETTING_TIME_S), _MIN_REMEMBERED_WORK_S / self._took_s)
        )
        took_s = min(took_s, _MAX_SLOWDOWN_NOTED * self.ratio * expected_s)
        self._took_s = kept * self._took_s + took_s
        self._expected_s = kept * self._expected_s + expected_s
        self._pieces = kept * self._pieces + 1
        self._noted_at = now


class DevicePace:
    """What a device takes for a batch: as the warm-up measured it, times how much slower batches have been lately.

    Args:
        seconds: of one batch of each size, none of them 0.
        padded: whether a batch between two of these sizes costs what the larger does, as it is filled up to it.
    """

    def __init__(self, seconds: Mapping[int, float], *, padded: bool = False) -> None:
        sizes = sorted(seconds)
        rates = {size: size / seconds[size] for size in sizes}
        self.paying_batch = next(
            size for size in sizes if rates[size] >= (1 - _MAX_THROUGHPUT_LOSS) * max(rates.values())
        )
        """The smallest size that is within 5 % of the most images a second.

        On a GPU that is often the largest; on a CPU large batches are slower per image, and every neighbour waits.
        """
        # Seconds of a batch of any size when all was quiet; between the sizes that were measured, between their times.
        images = range(1, sizes[-1] + 1)
        if padded:
            self._warm = [0.0, *(seconds[next(size for size in sizes if size >= count)] for count in images)]
        else:
            self._warm = [0.0, *np.interp(images, sizes, [seconds[size] for size in sizes]).tolist()]
        self._slowdown = Slowdown()

    def note(self, images: int, seconds: float) -> None:
        """Takes a batch into account that the device has just computed."""
        self._slowdown.note(seconds, self._warm[images])

    def seconds_for(self, images: int, batch: int) -> float:
        """Seconds that so many images take, in batches of `batch` and one of the rest."""
        whole, rest = divmod(images, batch)
        return self._slowdown.ratio * (whole * self._warm[batch] + self._warm[rest])


class DecodePace:
    """Seconds that workers lately took for each second of the price of an image.

    Prices are those of one machine; on another one, or beside others who want its cores, all take longer.
    """

    def __init__(self) -> None:
        self._slowdown = Slowdown(USUAL_PRICE_S)

    @property
    def ratio(self) -> float:
        """By how much images take longer than their price."""
        return self._slowdown.ratio

    @property
    def usual_price_s(self) -> float:
        """Price of an image of which nothing is known: that of a small photograph, or of those of late."""
        return min(USUAL_PRICE_S, self._slowdown.mean_expected_s)

    def note(self, took_s: float, price_s: float) -> None:
        """Takes an image into account that has just been decoded."""
        self._slowdown.note(took_s, price_s)
