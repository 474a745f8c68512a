"""Tests of percentiles of measured values."""

import math

import pytest

from harness.percentiles import percentile


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.2, 1.0), (0.21, 2.0), (0.5, 3.0), (0.99, 5.0), (1.0, 5.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """A percentile is the least value that this share does not exceed, in any order of the values."""
    assert percentile([4.0, 1.0, 5.0, 2.0, 3.0], share) == value


def test_nothing_was_ever_quick_enough() -> None:
    """Without a value the percentile is infinite, so every bound is exceeded."""
    assert percentile([], 0.5) == math.inf
