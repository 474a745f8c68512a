"""Tests of admission: which requests a replica accepts, and which it refuses."""

import pytest

from deployments.admission import check_wait
from deployments.request_errors import Overloaded


def test_what_would_wait_too_long_is_refused() -> None:
    """A refusal names the expected wait and the limit; its Retry-After follows from the difference."""
    check_wait(0.25, 0.25, own_s=1.0)
    with pytest.raises(
        Overloaded, match=r"would wait for 2\.75 s; the limit is 0\.25 s \(max_queue_wait_s\)"
    ) as refused:
        check_wait(2.75, 0.25, own_s=1.0)
    assert (refused.value.retry_after_s, refused.value.at_once) == (3, False)
    with pytest.raises(Overloaded) as refused:
        check_wait(1000.0, 0.25, own_s=1.0)
    assert refused.value.retry_after_s == 60


def test_a_request_with_too_little_time_of_its_own_is_told_so_at_once() -> None:
    """A request refused only for its own short deadline is told at once.

    Under general overload it is refused as all others.
    """
    with pytest.raises(Overloaded, match=r"the limit is 0\.5 s \(the time limit of the request\)") as refused:
        check_wait(0.75, 5.0, own_s=0.5)
    assert refused.value.at_once
    with pytest.raises(Overloaded) as refused:
        check_wait(5.5, 5.0, own_s=0.5)
    assert not refused.value.at_once
