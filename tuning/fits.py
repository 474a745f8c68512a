"""Laws fitted to measured costs, to predict those that were not measured."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scaling:
    """Images a second by number of workers, after the universal scalability law.

    N workers do N * alone / (1 + waiting * (N - 1) + crosstalk * N * (N - 1)) (Gunther, A Simple Capacity Model of
    Massively Parallel Transaction Systems, 1993).
    """

    alone: float  # images a second of one worker
    waiting: float  # share of the work that only one can do at a time
    crosstalk: float  # what each pair costs
    error: float  # the greatest difference to a measurement, as a share of it

    def rate(self, workers: int) -> float:
        """Compute the images a second of a number of workers."""
        slowed = 1 + self.waiting * (workers - 1) + self.crosstalk * workers * (workers - 1)
        return workers * self.alone / slowed


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Seconds of a batch: fixed + each * n + beyond * n²; the last where large batches outgrow a cache."""

    fixed_s: float
    each_s: float
    beyond_s: float
    error: float  # the greatest difference to a measurement, as a share of it

    def seconds(self, images: int) -> float:
        """Compute the seconds of a batch by its number of images."""
        return self.fixed_s + self.each_s * images + self.beyond_s * images * images


def fit_scaling(rates: Mapping[int, float]) -> Scaling:
    """Fit the law to images a second by the number of workers."""
    workers = np.array(sorted(rates), dtype=float)
    seconds = workers / np.array([rates[int(number)] for number in workers])  # of an image in one of so many workers
    terms = np.stack([np.ones_like(workers), workers - 1, workers * (workers - 1)])
    factors, error = _fitted(terms, seconds)
    return Scaling(1 / factors[0], factors[1] / factors[0], factors[2] / factors[0], error)


def fit_batches(seconds: Mapping[int, float]) -> BatchCost:
    """Fit the law to seconds of a batch by its images."""
    sizes = np.array(sorted(seconds), dtype=float)
    terms = np.stack([np.ones_like(sizes), sizes, sizes * sizes])
    factors, error = _fitted(terms, np.array([seconds[int(size)] for size in sizes]))
    fixed_s, each_s, beyond_s = factors
    return BatchCost(fixed_s, each_s, beyond_s, error)


def _fitted(terms: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[list[float], float]:
    """Factors, none below 0, with which the terms come nearest to the values; and the greatest relative error.

    With three terms there are few sets of which to leave some out, so all are tried.

    Args:
        terms: float64 [terms, n].
        values: float64 [n], above 0.
    """
    best, least = np.zeros(len(terms)), np.inf
    for kept in _subsets(range(len(terms)), len(values)):
        found, *_ = np.linalg.lstsq((terms[kept] / values).T, np.ones_like(values), rcond=None)
        if (found < 0).any():
            continue
        residual = float(np.square(found @ terms[kept] / values - 1).sum())
        if residual < least - 1e-12:
            best, least = np.zeros(len(terms)), residual
            best[kept] = found
    return best.tolist(), float(np.abs(best @ terms / values - 1).max())


def _subsets(terms: Sequence[int], most: int) -> "itertools.chain[list[int]]":
    """Small ones first: of two that fit alike the simpler one holds."""
    sizes = range(1, min(len(terms), most) + 1)
    return itertools.chain.from_iterable(map(list, itertools.combinations(terms, size)) for size in sizes)
