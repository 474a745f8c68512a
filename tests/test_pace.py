"""What the stages take, and what is made of it."""

import pytest

from pipeline.config import USUAL_PRICE_S
from pipeline.pace import DecodePace, DevicePace

CPU = {1: 0.010, 4: 0.036, 8: 0.100, 32: 0.600}  # 100, 111, 80 and 53 images a second
GPU = {1: 0.0040, 8: 0.0044, 32: 0.0080, 64: 0.0157}  # 250, 1818, 4000 and 4076


@pytest.mark.parametrize(("seconds", "size"), [(CPU, 4), (GPU, 32), ({1: 0.5}, 1)], ids=["cpu", "gpu", "one size"])
def test_the_batch_that_pays_is_the_smallest_that_is_nearly_the_fastest(seconds: dict[int, float], size: int) -> None:
    """Neither a batch that is slower per image, nor one that makes images wait for nothing."""
    assert DevicePace(seconds).paying_batch == size


def test_what_waits_takes_whole_batches_and_a_rest() -> None:
    """Sizes between those that were measured lie between their times."""
    pace = DevicePace(CPU)
    assert pace.seconds_for(0, 4) == 0
    assert pace.seconds_for(9, 4) == pytest.approx(2 * 0.036 + 0.010)
    assert pace.seconds_for(6, 8) == pytest.approx((0.036 + 0.100) / 2)


def test_a_batch_that_is_padded_takes_as_long_as_what_it_is_padded_to() -> None:
    """In what is foreseen, and in what a batch is held against: no slowdown is made up of padding."""
    pace = DevicePace(GPU, padded=True)
    assert pace.seconds_for(9, 32) == pytest.approx(0.0080)
    assert pace.seconds_for(34, 32) == pytest.approx(0.0080 + 0.0044)
    for _ in range(60):
        pace.note(9, 0.0080)
    assert pace.seconds_for(64, 64) == pytest.approx(0.0157)


def test_a_device_that_has_become_slower_is_believed_after_some_batches() -> None:
    """One batch that was held up changes little; many do."""
    pace = DevicePace(CPU)
    pace.note(4, 3 * 0.036)
    assert pace.seconds_for(4, 4) < 1.5 * 0.036
    for _ in range(60):
        pace.note(4, 3 * 0.036)
    assert pace.seconds_for(4, 4) == pytest.approx(3 * 0.036, rel=0.01)
    assert pace.seconds_for(8, 8) == pytest.approx(3 * 0.100, rel=0.01)


def test_decoding_takes_what_it_took_lately() -> None:
    """As a ratio to the prices of the images, whatever these were; at first all take what they should."""
    pace = DecodePace()
    assert pace.ratio == 1
    for price_s in (0.002, 0.03) * 50:
        pace.note(3 * price_s, price_s)
    assert pace.ratio == pytest.approx(3, rel=0.01)


def test_an_image_beyond_all_measure_is_noted_as_a_slow_one() -> None:
    """Else one file that was made to be slow would have all others refused for a while."""
    pace = DecodePace()
    pace.note(10.0, 0.002)
    assert pace.ratio < 1.5


def test_an_unknown_image_costs_as_much_as_a_small_photograph_or_as_those_of_late() -> None:
    """Refused before its header is read, it should be for what waits, not for a price that it may not have."""
    pace = DecodePace()
    assert pace.usual_price_s == USUAL_PRICE_S
    for _ in range(100):
        pace.note(0.002, 0.001)
    assert pace.usual_price_s == pytest.approx(0.001, rel=0.01)
    for _ in range(100):
        pace.note(0.2, 0.1)
    assert pace.usual_price_s == USUAL_PRICE_S
