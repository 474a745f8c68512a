"""Tests of the limits that let in the measured load."""

import math
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuning.measured import PRESENT, seen
from tuning.load_check import LoadCheck, LoadResult
from tuning.replica_settings import Settings
from tuning.written_limits import MAX_DOUBLINGS, needed_wait_s, proved, with_limits

OTHER = replace(PRESENT, decode_workers=2, batch=4)


@given(
    clients=st.integers(1, 256),
    rate=st.floats(0.5, 5000),
    p99_s=st.floats(0.002, 60),
    images_per_request=st.sampled_from([1, 8, 32]),
    asked_s=st.none() | st.floats(0.001, 600),
    present_s=st.floats(0.001, 60),
)
def test_a_closed_loop_is_let_in_by_arithmetic(
    clients: int,
    rate: float,
    p99_s: float,
    images_per_request: int,
    asked_s: float | None,
    present_s: float,
) -> None:
    """The limits let in a closed loop: twice its wait, and as many requests as clients."""
    load = seen(clients=clients, offered=rate, p99_s=p99_s)
    present = replace(PRESENT, max_queue_wait_s=present_s, max_ongoing_requests=8)
    written = with_limits(
        replace(OTHER, max_ongoing_requests=8),
        present,
        load,
        images_per_request=images_per_request,
        asked_s=asked_s,
    )
    assert written.max_queue_wait_s >= 2 * clients * images_per_request / rate * (1 - 1e-9)
    assert written.max_queue_wait_s >= 2 * load.longest_s * (1 - 1e-9)
    assert written.max_ongoing_requests >= 2 * clients
    if asked_s is None:
        assert written.max_queue_wait_s >= present_s


def test_without_a_bound_what_is_there_stays() -> None:
    """Without a bound, limits that are wide enough stay."""
    load = seen(clients=18, p99_s=0.35)
    kept = with_limits(replace(PRESENT, max_queue_wait_s=60.0), PRESENT, load, images_per_request=1, asked_s=None)
    assert kept == PRESENT
    narrow = replace(PRESENT, max_queue_wait_s=0.25)
    assert with_limits(narrow, narrow, load, images_per_request=1, asked_s=None).max_queue_wait_s == 0.77


def test_a_bound_shortens_the_wait_to_what_can_be_in_time() -> None:
    """A bound shortens the allowed wait, but not below that of its own closed loop; a longer bound changes nothing."""
    load = seen(clients=4, p99_s=0.09)

    def wait_s(asked_s: float) -> float:
        return with_limits(PRESENT, PRESENT, load, images_per_request=1, asked_s=asked_s).max_queue_wait_s

    assert wait_s(1.0) == 1.0
    assert wait_s(0.1) == needed_wait_s(load, 1) == 0.2
    assert wait_s(60.0) == PRESENT.max_queue_wait_s


def test_what_was_never_answered_needs_no_wait() -> None:
    assert needed_wait_s(replace(seen(clients=4, offered=0.0), longest_s=math.inf), 1) == 0.001


class _Refusing:
    """Stands in for a load check that refuses requests while `max_queue_wait_s` is below a limit."""

    def __init__(self, until_s: float) -> None:
        self._until_s, self._wait_s, self.loads = until_s, 0.0, 0

    def apply(self, settings: Settings) -> None:
        self._wait_s = settings.max_queue_wait_s

    def closed_loop(self, settings: Settings, clients: int, for_s: float) -> LoadResult:  # noqa: ARG002
        self.loads += 1
        return seen(settings, clients=clients, refused=int(self._wait_s < self._until_s))


@pytest.mark.parametrize(("until_s", "wait_s", "loads"), [(0.0, 0.1, 1), (0.15, 0.2, 2), (0.7, 0.8, 4)])
def test_settings_that_refuse_are_not_what_is_written(until_s: float, wait_s: float, loads: int) -> None:
    """Settings that refuse the closed loop are not written.

    It is run again with a longer wait until none is refused.
    """
    check = _Refusing(until_s)
    settings, proof = proved(cast(LoadCheck, check), replace(PRESENT, max_queue_wait_s=0.1), 4, 1.0)
    assert (settings.max_queue_wait_s, check.loads, proof.refused) == (wait_s, loads, 0)
    assert proof.settings == settings


def test_what_is_refused_all_the_same_is_told() -> None:
    """If requests are still refused, the result says so, and the caller does not write the settings."""
    check = _Refusing(math.inf)
    _, proof = proved(cast(LoadCheck, check), PRESENT, 4, 1.0)
    assert (proof.refused, check.loads) == (1, MAX_DOUBLINGS)
