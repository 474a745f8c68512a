"""Tests of the settings that follow from a combination."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from tests.tuning.measured import BOUND_S, PRESENT, costs
from tuning.capacity import cell, cells
from tuning.derived_settings import Sizes, longest_wait_s, settings_for

SIZES = Sizes(60_000, 120_000)


@given(
    st.floats(0.0005, 0.2),
    st.floats(0.0001, 0.2),
    st.floats(0.001, 10),
    st.sampled_from([(2, True), (16, False)]),
    st.integers(1_000, 16 << 20),
)
def test_whatever_is_measured_the_settings_are_sound(
    decode_s: float, model_s: float, bound_s: float, kind: tuple[int, bool], size: int
) -> None:
    """Whatever is measured, the derived settings pass all checks of the configuration."""
    measured = costs(decode_s=decode_s, model_s=model_s, cores=kind[0], on_cpu=kind[1], most_workers=kind[0])
    for each in cells(measured, bound_s):
        settings = settings_for(each, measured, Sizes(size, size), PRESENT, bound_s)
        config = ServiceConfig.model_validate(settings.args)
        config.check_live(LiveConfig.model_validate(settings.user_config))


def test_a_batch_may_grow_without_a_restart() -> None:
    """The next larger batch size is warmed too where there is one, so a batch may grow without a restart."""
    warmed = {
        each.batch: settings_for(each, costs(), SIZES, PRESENT, BOUND_S).batch_sizes for each in cells(costs(), BOUND_S)
    }
    assert warmed == {1: (1, 2), 2: (1, 2, 4), 4: (1, 2, 4, 8), 8: (1, 2, 4, 8, 16), 16: (1, 2, 4, 8, 16)}


def test_no_replica_is_replaced_for_what_the_service_shows() -> None:
    """The cost of HTTP and its spread change only predictions and live settings, so no replica is replaced."""
    before = costs(decode_s=0.0005, model_s=0.002, fixed_s=0.001)
    after = replace(before, serving_s=0.03, spread=5.0)
    for expected, seen in zip(cells(before, BOUND_S), cells(after, BOUND_S), strict=True):
        assert seen.peak < expected.peak / 2
        first, second = (
            settings_for(each, given, SIZES, PRESENT, BOUND_S) for each, given in ((expected, before), (seen, after))
        )
        assert first.args == second.args


def test_limits_stay_as_wide_as_they_are() -> None:
    """Limits that do not follow from a combination stay as wide as they are."""
    settings = settings_for(next(cells(costs(), BOUND_S)), costs(), SIZES, PRESENT, BOUND_S)
    for name in ("max_queue_wait_s", "max_bytes_in_flight", "max_ongoing_requests"):
        assert getattr(settings, name) == getattr(PRESENT, name)


@pytest.mark.parametrize(("on_cpu", "workers", "cores"), [(True, 1, 2.0), (True, 3, 2), (False, 1, 1.5), (False, 3, 4)])
def test_what_ray_reserves_follows_from_the_size_of_a_replica(on_cpu: bool, workers: int, cores: float) -> None:
    """The CPUs that Ray reserves follow from the replica's size, and stay if the size does."""
    given = costs(cores=2 if on_cpu else 16, on_cpu=on_cpu)
    concurrent_batches = 2 if on_cpu else 1
    present = replace(PRESENT, concurrent_batches=concurrent_batches, num_cpus=2.0 if on_cpu else 1.5)
    combination = cell(given, workers, concurrent_batches, 4, BOUND_S)
    assert settings_for(combination, given, SIZES, present, BOUND_S).num_cpus == cores


def test_what_may_wait_is_what_the_bound_leaves() -> None:
    first = next(cells(costs(), BOUND_S))
    waits = [longest_wait_s(first, costs(), bound_s) for bound_s in (0.05, 0.1, 1.0)]
    assert waits == sorted(waits)
    assert waits[1] == pytest.approx(0.7 * (0.1 - first.own_s))


def test_larger_batches_may_wait_as_long_as_there_is_time_for_a_full_one() -> None:
    """The allowed wait is the same for larger batches while a full one fits into the bound: most batches are small."""
    alike = [each for each in cells(costs(), BOUND_S) if each.key[:2] == (2, 2)]
    waits = [longest_wait_s(each, costs(), BOUND_S) for each in alike]
    assert waits[0] == waits[1]
    for large, wait_s in zip(alike, waits, strict=True):
        assert wait_s == pytest.approx(min(waits[0], BOUND_S - large.own_s))


def test_images_that_are_quick_to_decode_come_in_larger_chunks() -> None:
    """Images that decode quickly come in larger chunks: 0.2 ms to hand over 0.2 ms of work would waste half."""
    quick, slow = (
        settings_for(next(cells(given, 1.0)), given, SIZES, PRESENT, 1.0).chunk_bytes
        for given in (costs(decode_s=0.0002), costs(decode_s=0.050))
    )
    assert quick > 8 * slow


def test_sizes_are_those_of_the_images() -> None:
    images = [bytes(100)] * 95 + [bytes(1000)] * 5
    assert Sizes.of(images) == Sizes(145.0, 100)
    assert Sizes.of([b"x"]) == Sizes(1.0, 1)
