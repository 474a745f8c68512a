"""Tests of the predicted combination, among those that fit into memory."""

from dataclasses import replace

import pytest

from deployments.live_config import LiveConfig
from tests.tuning.measured import BOUND_S, PRESENT, costs
from tuning.capacity import Costs, best
from tuning.derived_settings import Sizes, longest_wait_s
from tuning.forecast import Forecast, Refused
from tuning.replica_memory import ReplicaMemory

PLENTY = ReplicaMemory(1 << 40, 1 << 30, 1 << 27, 224, LiveConfig())


def _forecast(given: Costs, bound_s: float = BOUND_S) -> Forecast:
    return Forecast(given, Sizes(60_000, 120_000), PRESENT, bound_s, PLENTY)


@pytest.mark.parametrize(("bound_s", "batch"), [(0.03, 1), (0.1, 2), (0.2, 4), (0.4, 8), (1.0, 16)])
def test_a_batch_is_as_large_as_there_is_time_for(bound_s: float, batch: int) -> None:
    """A batch is as large as the bound allows.

    Workers, concurrent batches and the allowed wait are those of the best combination.
    """
    forecast = _forecast(costs(fixed_s=0.0), bound_s)
    found, most = forecast.best(), best(forecast.candidates)
    assert found.batch == batch
    assert (found.decode_workers, found.concurrent_batches) == (most.decode_workers, most.concurrent_batches)
    assert longest_wait_s(found, forecast.costs, bound_s) == longest_wait_s(most, forecast.costs, bound_s)


def test_a_batch_is_no_larger_than_pays() -> None:
    """A batch grows only while that helps: twice the images in more than twice the time gain nothing."""
    given = costs(fixed_s=0.0)
    for concurrent_batches in given.compute.concurrent_batches:
        for batch in (4, 8, 16):
            given.compute.batches[concurrent_batches, batch] = [0.012 * batch]
    assert _forecast(given, 1.0).best().batch == 2


def test_settings_come_down_to_a_combination_that_was_measured() -> None:
    """Settings are mapped to the nearest measured combination: larger batches would never be filled. Workers stay."""
    forecast = _forecast(costs())
    assert forecast.nearest(PRESENT).key == (1, 2, 16)
    assert forecast.nearest(replace(PRESENT, concurrent_batches=8, batch=3, decode_workers=7)).key == (7, 2, 2)


def test_a_bound_that_cannot_be_met_names_one_that_may_be() -> None:
    """A bound that cannot be met is refused with a rounded larger one, well above the time without any wait."""
    with pytest.raises(Refused, match=r"an image takes at least 1\d\.?\d* ms .* Give a larger --p99-ms, \d\d or more"):
        _forecast(costs(), 0.001).best()
    with pytest.raises(Refused, match=r"8 images take at least"):
        _forecast(replace(costs(), images_per_request=8), 0.02).best()
