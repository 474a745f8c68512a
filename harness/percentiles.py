"""Percentiles of measured values."""

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], share: float) -> float:
    """The least of the values that so large a share of them does not exceed; infinite where there are none.

    Args:
        values: in any order.
        share: 0 to 1; 0.99 for the 99th percentile.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.inf
