"""What a replica takes on."""

from contextlib import suppress

import pytest

from deployments.admission import Admission, Hold
from pipeline.errors import Overloaded


def test_what_is_held_is_given_back() -> None:
    """Also where the request ends in an error; the limit is met exactly."""
    admission = Admission(10)
    with admission.hold() as one, admission.hold() as other:
        one.take(4)
        other.take(6)
        assert admission.held_bytes == 10
    with suppress(EOFError), admission.hold() as one:
        one.take(10)
        raise EOFError
    assert admission.held_bytes == 0


def test_too_much_is_refused_and_not_counted() -> None:
    """The message names what is in work, what came and the limit; the next smaller one still gets in."""
    admission = Admission(10)
    with admission.hold() as one, admission.hold() as other:
        one.take(8)
        with pytest.raises(Overloaded, match=r"8 bytes are in work and 3 more would exceed the limit, 10"):
            other.take(3)
        other.take(2)


def test_a_new_limit_holds_at_once() -> None:
    admission = Admission(10)
    with admission.hold() as one:
        one.take(10)
        admission.max_bytes = 5
        with pytest.raises(Overloaded):
            one.take(1)


def test_what_would_wait_too_long_is_refused() -> None:
    """The message names both times; when to come back follows from how much too long it is."""
    admission = Admission(10)
    admission.check_wait(0.25, limit_s=0.25)
    with pytest.raises(Overloaded, match=r"would wait for 2\.75 s; the limit is 0\.25 s \(max_wait_s") as refused:
        admission.check_wait(2.75, limit_s=0.25)
    assert refused.value.retry_after_s == 3
    with pytest.raises(Overloaded) as refused:
        admission.check_wait(1000.0, limit_s=0.25)
    assert refused.value.retry_after_s == 60


def _holding(admission: Admission, size: int) -> Hold:
    hold = Hold(admission)
    hold.take(size)
    return hold


def test_the_time_to_wait_follows_backlog_and_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are too many over bytes answered a second; whole seconds, from 1 to 60."""
    now = 100.0
    monkeypatch.setattr("deployments.admission.time.monotonic", lambda: now)
    admission = Admission(1000)
    assert admission.retry_after_s(1) == 1
    with admission.hold() as one:
        one.take(100)
    now += 2.0
    _holding(admission, 1000)
    assert admission.retry_after_s(1) == 1
    assert admission.retry_after_s(500) == 10  # 100 bytes in 2 s
    assert admission.retry_after_s(1_000_000) == 60
    now += 60.0
    assert admission.retry_after_s(500) == 1  # nothing is known of the pace any more
