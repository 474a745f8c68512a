"""Tests of the memory for bodies: bytes are counted as they arrive, and at the limit a body is refused."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import cycle

import pytest

from deployments.memory_budget import Hold, MemoryBudget
from deployments.request_errors import Overloaded

MB = 1 << 20


@pytest.fixture
def bodies() -> Iterator[ExitStack]:
    """Close the held bodies when the test ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the current time, as a list of one element."""
    now = [100.0]
    monkeypatch.setattr("deployments.memory_budget.time.monotonic", lambda: now[0])
    return now


def test_bytes_are_given_back() -> None:
    """Bytes are given back when a request ends, also by an error; the limit may be reached exactly."""
    budget = MemoryBudget(10)
    with budget.hold("a") as one, budget.hold("a") as other:
        one.take(4)
        other.take(6)
        assert budget.held_bytes == 10
    with suppress(EOFError), budget.hold("a") as one:
        one.take(10)
        raise EOFError
    assert budget.held_bytes == 0


def test_an_announcement_takes_nothing(bodies: ExitStack) -> None:
    """An announced length takes no memory: eighteen connections that announce all of it leave it to others."""
    budget = MemoryBudget(512 * MB)
    for _ in range(18):
        bodies.enter_context(budget.hold("a")).expect(128 * MB)
    assert budget.held_bytes == 0
    with budget.hold("a") as good:
        good.expect(500 * MB)
        good.take(500 * MB)


def test_too_much_is_refused_and_not_counted(bodies: ExitStack) -> None:
    """A body above the limit is refused by its announcement or as it arrives, and not counted.

    A smaller one still fits.
    """
    budget = MemoryBudget(10)
    one, other = bodies.enter_context(budget.hold("a")), bodies.enter_context(budget.hold("a"))
    one.take(8)
    one.finish()
    for refused in (other.expect, other.take):
        with pytest.raises(Overloaded, match=r"8 bytes are in work and 3 more would exceed the limit, 10"):
            refused(3)
    other.expect(2)
    other.take(2)


def test_a_new_limit_holds_at_once() -> None:
    budget = MemoryBudget(10)
    with budget.hold("a") as one:
        one.take(10)
        budget.max_bytes = 5
        with pytest.raises(Overloaded):
            one.take(1)


def test_a_whole_body_does_not_give_way(bodies: ExitStack) -> None:
    budget = MemoryBudget(10)
    whole, other = bodies.enter_context(budget.hold("a")), bodies.enter_context(budget.hold("b"))
    whole.take(8)
    whole.finish()
    with pytest.raises(Overloaded):
        other.take(3)
    assert not whole.was_dropped


def test_the_source_with_most_gives_way(bodies: ExitStack) -> None:
    """At the limit the youngest body of the source with most bytes is refused, so a newcomer from elsewhere gets in."""
    budget = MemoryBudget(12)
    ended = list[str]()
    for name in ("old", "young"):
        body = bodies.enter_context(budget.hold("many"))
        body.on_drop = lambda name=name: ended.append(name)  # type: ignore[misc]
        body.take(6)
    with pytest.raises(Overloaded), budget.hold("many") as newcomer:
        newcomer.expect(1)
    with pytest.raises(Overloaded), budget.hold("many") as newcomer:
        newcomer.take(1)
    few = bodies.enter_context(budget.hold("few"))
    few.expect(5)
    few.take(5)
    assert ended == ["young"]
    assert budget.held_bytes == 11


def test_a_body_that_has_given_way_takes_no_more(bodies: ExitStack) -> None:
    budget = MemoryBudget(10)
    old, young = bodies.enter_context(budget.hold("a")), bodies.enter_context(budget.hold("a"))
    young.take(6)
    old.take(6)
    with pytest.raises(Overloaded, match=r"dropped while it arrived, for others .* 10 bytes \(max_bytes_in_flight\)"):
        young.take(1)
    assert (budget.held_bytes, young.bytes) == (6, 0)


def test_a_slow_body_gives_way_first(bodies: ExitStack, clock: list[float]) -> None:
    """A slow body with much in memory is refused first; a small one may take its time."""
    budget = MemoryBudget(10 * MB)
    standing, small, quick = (bodies.enter_context(budget.hold("a")) for _ in range(3))
    standing.take(5 * MB)
    small.take(MB // 2)
    for _ in range(3):
        clock[0] += 2.5
        quick.take(MB)
    assert [body.is_slow() for body in (standing, small, quick)] == [True, False, False]
    with budget.hold("a") as newcomer:
        newcomer.take(4 * MB)
        assert [body.was_dropped for body in (standing, small, quick)] == [True, False, False]


def test_a_small_body_is_not_refused_for_a_large_one(bodies: ExitStack) -> None:
    """A small body is never refused in favour of a large one; the youngest large one is, also of the same source."""
    budget = MemoryBudget(10 * MB)
    old, young, small = (bodies.enter_context(budget.hold("a")) for _ in range(3))
    small.take(MB // 2)
    for body in (old, young):
        body.take(9 * MB // 2)
    with pytest.raises(Overloaded), budget.hold("a") as large:
        large.expect(2 * MB)
    with budget.hold("a") as newcomer:
        newcomer.expect(MB)
        newcomer.take(MB)
    assert [body.was_dropped for body in (old, young, small)] == [False, True, False]


def test_bodies_that_are_half_there_do_not_wait_for_each_other() -> None:
    """Incomplete bodies never block each other: of sixty with 10 MB each, where 51 fit, all but the youngest arrive."""
    budget = MemoryBudget(512 * MB)
    with ExitStack() as stack:
        arriving = dict.fromkeys([stack.enter_context(budget.hold("a")) for _ in range(60)], 10 * MB)
        whole = list[Hold]()
        for body in cycle(list(arriving)):
            if not arriving:
                break
            if body in arriving:
                try:
                    body.take(64 << 10)
                except Overloaded:
                    del arriving[body]
                    continue
                arriving[body] -= 64 << 10
                if not arriving[body]:
                    del arriving[body]
                    body.finish()
                    whole.append(body)
        assert len(whole) == 51
        assert budget.held_bytes == 510 * MB
    assert budget.held_bytes == 0


def test_a_body_that_stands_still_gives_way_for_its_place(bodies: ExitStack, clock: list[float]) -> None:
    """When places are short, the slowest body of the source with most is refused, unless it is new or fast enough."""
    budget = MemoryBudget(MB)
    elsewhere = bodies.enter_context(budget.hold("b"))
    silent, dribbling, telephone = (bodies.enter_context(budget.hold("a")) for _ in range(3))
    budget.drop_slowest(9, 1000)
    assert not silent.was_dropped
    clock[0] += 2.0
    young = bodies.enter_context(budget.hold("a"))
    dribbling.take(100)
    telephone.take(10_000)
    budget.drop_slowest(1, 1000)
    assert [body.was_dropped for body in (silent, dribbling)] == [True, False]
    budget.drop_slowest(9, 1000)
    assert [body.was_dropped for body in (silent, dribbling, telephone, young)] == [True, True, False, False]
    assert not elsewhere.was_dropped
    assert budget.held_bytes == 10_000


def test_the_time_to_wait_follows_backlog_and_pace(clock: list[float], bodies: ExitStack) -> None:
    """Retry-After is the excess of bytes over the bytes answered a second: whole seconds, from 1 to 60."""
    budget = MemoryBudget(1000)
    assert budget.retry_after_s(1) == 1
    with budget.hold("a") as one:
        one.take(100)
    clock[0] += 2.0
    bodies.enter_context(budget.hold("a")).take(1000)
    assert budget.retry_after_s(1) == 1
    assert budget.retry_after_s(500) == 10  # 100 bytes in 2 s
    assert budget.retry_after_s(1_000_000) == 60
    clock[0] += 60.0
    assert budget.retry_after_s(500) == 1  # the measured pace is too old
