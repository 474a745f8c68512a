"""Tests of the predictions for combinations, and of the choice of the best."""

import math
from dataclasses import replace

import pytest

from tests.tuning.measured import BOUND_S, best_of, costs
from tuning.capacity import best, cell, cells


def test_the_peak_is_that_of_the_weakest_part() -> None:
    """The peak is that of the weakest part: two cores and 14 ms of one core for an image give 2 / 14 ms."""
    given = costs()
    assert cell(given, 1, 2, 1, BOUND_S).limits == pytest.approx(
        {"decoding": 1000, "device": 2 / 0.012, "cores": 2 / 0.014}
    )
    assert cell(given, 1, 2, 1, BOUND_S).bound_by == "cores"
    assert cell(given, 1, 1, 1, BOUND_S).bound_by == "device"
    assert cell(costs(decode_s=0.1), 1, 1, 1, 1.0).bound_by == "decoding"


def test_spare_workers_decode_for_a_cpu_without_images() -> None:
    """On a CPU as many workers decode as the model has threads; on a GPU only those that are configured."""
    assert cell(costs(decode_s=0.1), 1, 2, 1, 1.0).limits["decoding"] == pytest.approx(20)
    assert cell(costs(decode_s=0.1, on_cpu=False), 1, 1, 1, 1.0).limits["decoding"] == pytest.approx(10)


def test_a_gpu_leaves_the_cores_to_decoding() -> None:
    given = costs(decode_s=0.010, model_s=0.0001, cores=16, on_cpu=False, most_workers=16)
    assert cell(given, 8, 1, 16, BOUND_S).limits["cores"] == pytest.approx(1600)
    assert best_of(given).decode_workers >= 15


def test_http_takes_its_share_of_the_cores() -> None:
    given = replace(costs(), serving_s=0.006)
    assert cell(given, 1, 2, 1, BOUND_S).peak == pytest.approx(100)


def test_more_comes_within_a_longer_bound() -> None:
    capacities = [cell(costs(), 1, 2, 1, bound_s).capacity for bound_s in (0.03, 0.1, 0.3, 3.0)]
    assert capacities == sorted(capacities)
    assert 0.95 < capacities[-1] / cell(costs(), 1, 2, 1, 3.0).peak < 1


@pytest.mark.parametrize("images_per_request", [1, 4])
def test_of_as_many_as_may_come_one_in_a_hundred_is_late(images_per_request: int) -> None:
    """At the predicted capacity the 99th percentile equals the bound: the two formulas are inverse."""
    expected = cell(replace(costs(), spread=2.5, images_per_request=images_per_request), 1, 2, 2, BOUND_S)
    assert expected.p99_s(expected.capacity) == pytest.approx(BOUND_S)
    assert expected.p99_s(1.01 * expected.peak) == math.inf


def test_requests_of_many_images_leave_less_room_in_a_bound() -> None:
    """Requests of many images lower the capacity within a bound, as their images arrive together; the peak stays."""
    capacities = [
        cell(replace(costs(), images_per_request=images_per_request), 1, 2, 2, 0.2).capacity
        for images_per_request in (1, 2, 4, 32)
    ]
    assert capacities == sorted(capacities, reverse=True)
    assert capacities[-1] == 0
    peaks = {
        cell(replace(costs(), images_per_request=images_per_request), 1, 2, 2, 0.2).peak
        for images_per_request in (1, 32)
    }
    assert len(peaks) == 1


def test_one_event_loop_is_a_limit_of_its_own() -> None:
    """The event loop is a limit of its own: with a GPU and many cores, HTTP may allow less than anything else."""
    given = costs(decode_s=0.001, model_s=0.0001, cores=16, on_cpu=False, most_workers=16)
    expected = cell(replace(given, loop_s=0.001), 15, 1, 16, BOUND_S)
    assert expected.bound_by == "HTTP"
    assert expected.peak == pytest.approx(1000)
    assert cell(given, 15, 1, 16, BOUND_S).bound_by != "HTTP"


def test_a_batch_that_takes_longer_than_the_bound_is_none() -> None:
    assert cell(costs(), 1, 2, 16, BOUND_S).capacity == 0
    assert best_of(costs(), bound_s=0.001).capacity == 0


def test_a_device_with_a_dear_start_wants_large_batches() -> None:
    assert best_of(costs(fixed_s=0.040, model_s=0.001, on_cpu=False), bound_s=1.0).batch == 16
    assert best_of(costs(fixed_s=0.0, model_s=0.010, on_cpu=False), bound_s=1.0).batch == 1


def test_of_those_as_good_the_smallest_with_a_spare_worker_is_taken() -> None:
    """The smallest of equally good combinations is chosen, but with two workers unless that costs something."""
    candidates = list(cells(costs(), BOUND_S))
    chosen = best(candidates)
    assert chosen.decode_workers == 2
    for other in candidates:
        if other.batch < chosen.batch or other.concurrent_batches < chosen.concurrent_batches:
            assert other.capacity < 0.99 * chosen.capacity
    dear = [each for each in candidates if each.decode_workers == 1 or each.concurrent_batches == 1]
    assert best(dear).decode_workers == 1


def test_workers_that_wait_take_no_core_from_others() -> None:
    """Workers without work take no core: the cores in use follow from the work, not from the number of workers."""
    few, many = (cell(costs(), workers, 2, 1, BOUND_S) for workers in (1, 3))
    assert few.own_s == pytest.approx(many.own_s)


def test_photographs_that_are_slow_to_decode_want_workers() -> None:
    """Slow photographs want many workers; those count that help the model's idle threads, one for each."""
    small, large = (best_of(costs(decode_s=s, cores=8, most_workers=8), bound_s=1.0) for s in (0.001, 0.020))
    assert small.decode_workers == 2
    assert max(large.decode_workers, large.concurrent_batches) > 4
