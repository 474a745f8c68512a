"""Measured speed of the two stages: gives the best batch size, and the time that waiting images will take."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from pipeline.bounds import USUAL_COST_S

_MAX_THROUGHPUT_LOSS: Final = 0.05
_MAX_MEASURING_S: Final = 0.2
_MAX_SLOWDOWN_NOTED: Final = 4.0

_FORGETTING_TIME_S: Final = 2.0
"""Seconds after which a measurement has the weight 1 / e: long against one batch, short against a spell of load."""

_MIN_REMEMBERED_WORK_S: Final = 0.1
"""Seconds of work that are remembered at any age, so that no single image decides."""


def warm_seconds(compute: Callable[[], object]) -> float:
    """Time a call after a first one that does not count: the least of three seconds, or of fewer if calls are long."""
    compute()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < _MAX_MEASURING_S:
        started_at = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - started_at)
    return min(seconds)


class Slowdown:
    """Ratio of the time that recent work took to the time that was expected for it.

    It is a ratio of sums, so that long work counts for more. Old work loses weight with time: the ratio rests on the
    work of the last two seconds, or on the latest work if that was longer ago.

    Args:
        expected_s: expected time of a piece of work, before the first one is noted.
    """

    def __init__(self, expected_s: float = _MIN_REMEMBERED_WORK_S) -> None:
        self._took_s = self._expected_s = _MIN_REMEMBERED_WORK_S
        self._pieces = _MIN_REMEMBERED_WORK_S / expected_s
        self._noted_at = time.monotonic()

    @property
    def ratio(self) -> float:
        """Time taken divided by time expected."""
        return self._took_s / self._expected_s

    @property
    def mean_expected_s(self) -> float:
        """Mean of the seconds expected for a piece of work."""
        return self._expected_s / self._pieces

    def note(self, took_s: float, expected_s: float) -> None:
        """Add a piece of work that has just ended; an extremely slow one counts as four times slower than usual."""
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
    """Time that a device takes for a batch: as measured in the warm-up, times the slowdown of recent batches.

    Args:
        seconds: time of a batch by its size, none of them 0.
        padded: whether a batch is padded to the next of these sizes, and so takes as long as a batch of that size.
    """

    def __init__(self, seconds: Mapping[int, float], *, padded: bool = False) -> None:
        sizes = sorted(seconds)
        rates = {size: size / seconds[size] for size in sizes}
        self.efficient_batch_size = next(
            size for size in sizes if rates[size] >= (1 - _MAX_THROUGHPUT_LOSS) * max(rates.values())
        )
        """The smallest batch size whose throughput, in images a second, is within 5 % of the best.

        On a GPU that is often the largest size; on a CPU large batches are slower per image, and all their images wait.
        """
        # Seconds of a batch of any size without other load, interpolated between the sizes that were measured.
        images = range(1, sizes[-1] + 1)
        if padded:
            self._warm = [0.0, *(seconds[next(size for size in sizes if size >= count)] for count in images)]
        else:
            self._warm = [0.0, *np.interp(images, sizes, [seconds[size] for size in sizes]).tolist()]
        self._slowdown = Slowdown()

    def note(self, images: int, seconds: float) -> None:
        """Add a batch that the device has just computed."""
        self._slowdown.note(seconds, self._warm[images])

    def seconds_for(self, images: int, batch: int) -> float:
        """Return the seconds that a number of images takes, in batches of `batch` and a last one with the rest."""
        whole, rest = divmod(images, batch)
        return self._slowdown.ratio * (whole * self._warm[batch] + self._warm[rest])


class DecodePace:
    """Ratio of the time that workers recently took for images to the cost of those images.

    Costs were measured on one machine; on another one, or if other processes use the cores, all images take longer.
    """

    def __init__(self) -> None:
        self._slowdown = Slowdown(USUAL_COST_S)

    @property
    def ratio(self) -> float:
        """Decoding time divided by cost."""
        return self._slowdown.ratio

    @property
    def usual_cost_s(self) -> float:
        """Cost of an unknown image: that of a small photograph, or the mean of recent images if that is lower."""
        return min(USUAL_COST_S, self._slowdown.mean_expected_s)

    def note(self, took_s: float, cost_s: float) -> None:
        """Add an image that has just been decoded."""
        self._slowdown.note(took_s, cost_s)
