"""Which combination is predicted, of all that the memory holds."""

import pytest

from deployments.config import LiveConfig
from tests.tuning.measured import BOUND_S, costs
from tuning.capacity import Costs, best
from tuning.choice import Sizes
from tuning.forecast import Forecast
from tuning.room import Room

PLENTY = Room(1 << 40, 1 << 30, 1 << 27, 224, LiveConfig())


def _forecast(given: Costs, bound_s: float = BOUND_S) -> Forecast:
    return Forecast(given, Sizes(60_000, 120_000), LiveConfig(), bound_s, PLENTY)


@pytest.mark.parametrize(("bound_s", "batch"), [(0.03, 1), (0.1, 2), (0.2, 4), (0.4, 8), (1.0, 16)])
def test_a_batch_is_as_large_as_there_is_time_for(bound_s: float, batch: int) -> None:
    """With the workers and lanes that are best, and without anything having to wait any less."""
    forecast = _forecast(costs(fixed_s=0.0), bound_s)
    found, most = forecast.best(), best(forecast.candidates)
    assert found.batch == batch
    assert (found.workers, found.lanes) == (most.workers, most.lanes)
    assert forecast.settings(found).max_wait_s == forecast.settings(most).max_wait_s


def test_a_batch_is_no_larger_than_pays() -> None:
    """Twice the images in more than twice the time are not worth it, whatever time there is."""
    given = costs(fixed_s=0.0)
    for lanes in given.compute.lanes:
        for batch in (4, 8, 16):
            given.compute.batches[lanes, batch] = [0.012 * batch]
    assert _forecast(given, 1.0).best().batch == 2
