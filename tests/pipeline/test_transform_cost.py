"""Tests of the learned time of a user's own transform."""

import pytest

from pipeline.transform_cost import TransformCost


def test_time_grows_with_pixels_as_it_was_seen() -> None:
    """From two sizes the time of any third follows, also beyond them."""
    cost = TransformCost()
    for _ in range(20):
        for pixels in (100_000, 2_000_000):
            cost.note(pixels, 0.002 + 20e-9 * pixels)
    assert cost.seconds(1_000_000) == pytest.approx(0.022, rel=0.02)
    assert cost.seconds(12_000_000) == pytest.approx(0.242, rel=0.1)


@pytest.mark.parametrize("took_s", [0.0005, 0.05])
def test_one_size_tells_its_own_time(took_s: float) -> None:
    cost = TransformCost()
    for _ in range(100):
        cost.note(500_000, took_s)
    assert cost.seconds(500_000) == pytest.approx(took_s, rel=0.05)
    assert 0 <= cost.seconds(0) <= took_s


def test_a_change_of_pace_is_followed() -> None:
    cost = TransformCost()
    for took_s in [0.1] * 100 + [0.01] * 200:
        cost.note(500_000, took_s)
    assert cost.seconds(500_000) == pytest.approx(0.01, rel=0.2)
