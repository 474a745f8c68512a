"""Percentiles of measured values."""

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that a given share of the values does not exceed; infinite without values.

    Args:
        values: values in any order.
        share: 0 to 1; 0.99 for the 99th percentile.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.inf
