"""Tests of the laws that are fitted to measured costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning.fits import fit_batches, fit_scaling

SIZES = (1, 2, 4, 8, 16, 32)


@settings(deadline=None)  # a busy machine is slow at times
@given(st.floats(0, 0.05), st.floats(0.0001, 0.05), st.floats(0, 0.001))
def test_a_batch_that_follows_the_law_is_found_again(fixed_s: float, each_s: float, beyond_s: float) -> None:
    """Costs that follow the law are reproduced by the fit, also for sizes that were not measured."""
    fit = fit_batches({size: fixed_s + each_s * size + beyond_s * size**2 for size in SIZES})
    assert fit.error < 1e-6
    for size in (3, 24, 64):
        assert fit.seconds(size) == pytest.approx(fixed_s + each_s * size + beyond_s * size**2, rel=1e-4)


@settings(deadline=None)
@given(st.floats(1, 1000), st.floats(0, 0.3), st.floats(0, 0.05))
def test_workers_that_follow_the_law_are_found_again(alone: float, waiting: float, crosstalk: float) -> None:
    def rate(workers: int) -> float:
        return workers * alone / (1 + waiting * (workers - 1) + crosstalk * workers * (workers - 1))

    fit = fit_scaling({workers: rate(workers) for workers in (1, 2, 4, 8)})
    assert fit.alone == pytest.approx(alone)
    assert fit.error < 1e-6
    assert fit.rate(6) == pytest.approx(rate(6))


def test_no_cost_is_below_zero() -> None:
    """No fitted cost is below zero, although noise may make a large batch seem cheaper than a small one."""
    fit = fit_batches({1: 0.010, 2: 0.011, 4: 0.009, 8: 0.008})
    assert min(fit.fixed_s, fit.each_s, fit.beyond_s) >= 0
    assert 0.005 < fit.seconds(3) < 0.012


@pytest.mark.parametrize("known", [{1: 500.0}, {1: 500.0, 2: 900.0}])
def test_few_measurements_are_met_exactly(known: dict[int, float]) -> None:
    fit = fit_scaling(known)
    assert {workers: pytest.approx(fit.rate(workers)) for workers in known} == known
