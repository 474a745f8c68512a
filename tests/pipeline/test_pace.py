"""Tests of the measured pace of the stages, and of the forecasts from it."""

import pytest

from pipeline.bounds import USUAL_COST_S
from pipeline.pace import DecodePace, DevicePace

CPU = {1: 0.010, 4: 0.036, 8: 0.100, 32: 0.600}  # 100, 111, 80 and 53 images a second
GPU = {1: 0.0040, 8: 0.0044, 32: 0.0080, 64: 0.0157}  # 250, 1818, 4000 and 4076


@pytest.mark.parametrize(("seconds", "size"), [(CPU, 4), (GPU, 32), ({1: 0.5}, 1)], ids=["cpu", "gpu", "one size"])
def test_the_batch_that_pays_is_the_smallest_that_is_nearly_the_fastest(seconds: dict[int, float], size: int) -> None:
    """The best batch size is the smallest that is nearly the fastest per image."""
    assert DevicePace(seconds).efficient_batch_size == size


def test_what_waits_takes_whole_batches_and_a_rest() -> None:
    """Waiting images take whole batches and a rest; times of sizes between the measured ones are interpolated."""
    pace = DevicePace(CPU)
    assert pace.seconds_for(0, 4) == 0
    assert pace.seconds_for(9, 4) == pytest.approx(2 * 0.036 + 0.010)
    assert pace.seconds_for(6, 8) == pytest.approx((0.036 + 0.100) / 2)


def test_a_batch_that_is_padded_takes_as_long_as_what_it_is_padded_to() -> None:
    """A padded batch takes the time of its padded size, in forecasts and when its pace is measured."""
    pace = DevicePace(GPU, padded=True)
    assert pace.seconds_for(9, 32) == pytest.approx(0.0080)
    assert pace.seconds_for(34, 32) == pytest.approx(0.0080 + 0.0044)
    for _ in range(60):
        pace.note(9, 0.0080)
    assert pace.seconds_for(64, 64) == pytest.approx(0.0157)


class Clock:
    """Stands in for `time.monotonic`; work moves it forward."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the measurements."""
    clock = Clock()
    monkeypatch.setattr("pipeline.pace.time.monotonic", clock)
    return clock


def _work(clock: Clock, pace: DecodePace, *costs_s: float, slowdown: float, for_s: float) -> None:
    """Decode images of these costs, one after the other."""
    end_s = clock.now_s + for_s
    while clock.now_s < end_s:
        for cost_s in costs_s:
            clock.now_s += slowdown * cost_s
            pace.note(slowdown * cost_s, cost_s)


def test_a_device_that_has_become_slower_is_believed_within_seconds(clock: Clock) -> None:
    """One slow batch changes the pace little; many change it within seconds, for every batch size."""
    pace = DevicePace(CPU)
    pace.note(4, 3 * 0.036)
    assert pace.seconds_for(4, 4) < 2 * 0.036
    for _ in range(100):
        clock.now_s += 3 * 0.036
        pace.note(4, 3 * 0.036)
    assert pace.seconds_for(4, 4) == pytest.approx(3 * 0.036, rel=0.02)
    assert pace.seconds_for(8, 8) == pytest.approx(3 * 0.100, rel=0.02)


def test_decoding_takes_what_it_took_lately(clock: Clock) -> None:
    """The pace of decoding is the recent ratio of times to costs, whatever the costs are; it starts at 1."""
    pace = DecodePace()
    assert pace.ratio == 1
    _work(clock, pace, 0.002, 0.03, slowdown=3, for_s=12)
    assert pace.ratio == pytest.approx(3, rel=0.02)
    _work(clock, pace, 0.002, slowdown=1.2, for_s=4)
    assert pace.ratio == pytest.approx(1.2, rel=0.3)


def test_what_was_measured_before_a_rest_counts_for_little_after_it(clock: Clock) -> None:
    """After a rest the first new images count more than all older ones."""
    pace = DecodePace()
    _work(clock, pace, 0.01, slowdown=4, for_s=10)
    clock.now_s += 60
    assert pace.ratio == pytest.approx(4, rel=0.02)  # there is no newer measurement
    _work(clock, pace, 0.01, slowdown=1, for_s=0.3)
    assert pace.ratio < 1.5


@pytest.mark.parametrize("rest_s", [0.0, 60.0])
def test_an_image_beyond_all_measure_is_noted_as_a_slow_one(rest_s: float, clock: Clock) -> None:
    """An extremely slow image counts as a slow one only, also after a rest.

    Otherwise one file could make others be refused.
    """
    pace = DecodePace()
    _work(clock, pace, 0.002, slowdown=1, for_s=5)
    clock.now_s += rest_s
    pace.note(10.0, 0.002)
    assert pace.ratio < 1.5


def test_an_unknown_image_costs_as_much_as_a_small_photograph_or_as_those_of_late(clock: Clock) -> None:
    """Before its header is read, an image counts as a small photograph or as the recent ones, whichever is cheaper."""
    pace = DecodePace()
    assert pace.usual_cost_s == pytest.approx(USUAL_COST_S)
    _work(clock, pace, 0.001, slowdown=2, for_s=12)
    assert pace.usual_cost_s == pytest.approx(0.001, rel=0.02)
    _work(clock, pace, 0.1, slowdown=2, for_s=12)
    assert pace.usual_cost_s == pytest.approx(USUAL_COST_S)
