"""Tests of refusals that are held back for a while."""

import asyncio
from collections.abc import Iterable

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from deployments.http.late_refusals import MAX_DELAY_S, LateRefusals, body_bytes
from deployments.request_errors import Overloaded

PLAIN: Scope = {"type": "http", "headers": []}
REST: Message = {"type": "http.request", "body": b"x", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def receiving(messages: Iterable[Message], asked: list[Message] | None = None) -> Receive:
    """Return an ASGI `receive` with these messages and none after them; `asked` collects those that were taken."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        message = left.pop(0)
        if asked is not None:
            asked.append(message)
        return message

    return receive


def held(
    late: LateRefusals, receive: Receive, scope: Scope = PLAIN, *, limit_s: float = 0.02, at_once: bool = False
) -> bool:
    """Return whether the client is still connected after a refusal was held back."""
    return asyncio.run(late.hold(Overloaded("too much", at_once=at_once), limit_s, scope, receive))


def _waits_s(monkeypatch: pytest.MonkeyPatch, others: int, *, limit_s: float = 60.0, body_bytes: int = 0) -> float:
    """Return the seconds for which a refusal is held back while this many others are."""
    asked = list[float]()
    late, timeout = LateRefusals(1000), asyncio.timeout
    scope = {**PLAIN, "headers": [(b"content-length", b"%d" % body_bytes)]}

    def noted(delay_s: float) -> asyncio.Timeout:
        asked.append(delay_s)
        return timeout(0 if len(asked) > others else None)

    async def hold() -> None:
        holding = [late.hold(Overloaded("too much"), limit_s, scope, receiving([])) for _ in range(others + 1)]
        tasks = [asyncio.create_task(each) for each in holding]
        assert await tasks[-1]
        for task in tasks:
            task.cancel()

    monkeypatch.setattr("deployments.http.late_refusals.asyncio.timeout", noted)
    asyncio.run(hold())
    return asked[-1]


@pytest.mark.parametrize(
    ("others", "limit_s", "body_bytes", "waits_s"),
    [
        (0, 60.0, 0, 0.05),
        (19, 60.0, 0, 0.2),
        (63, 60.0, 60_000, 0.72),
        (11, 60.0, 4_000_000, 1.08),
        (255, 60.0, 0, MAX_DELAY_S),
        (255, 0.3, 0, 0.15),
    ],
)
def test_the_more_are_refused_the_later_each_is_told(
    others: int, limit_s: float, body_bytes: int, waits_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is held back longer the more there are and the larger their bodies are.

    The delay is 50 ms to 2 s, and at most half of the request's time.
    """
    seen_s = _waits_s(monkeypatch, others, limit_s=limit_s, body_bytes=body_bytes)
    assert seen_s == pytest.approx(waits_s, rel=0.02)


def test_what_comes_of_the_body_meanwhile_is_dropped() -> None:
    """Body bytes that arrive while a refusal is held back are dropped, so they take no memory."""
    asked = list[Message]()
    assert held(late := LateRefusals(1), receiving([REST], asked))
    assert (asked, late.waiting) == ([REST], 0)


def test_nobody_is_told_who_has_gone() -> None:
    assert not held(late := LateRefusals(1), receiving([REST, GONE]), limit_s=60.0)
    assert late.waiting == 0


def test_a_refusal_that_is_held_back_no_further_comes_at_once() -> None:
    """A refusal above the number that may be held back, or marked as immediate, is sent at once; no body is read."""
    assert held(LateRefusals(0), receiving([GONE]))
    assert held(LateRefusals(1), receiving([GONE]), at_once=True)


@pytest.mark.parametrize("length", [b"", b"-1", b"1e3", b"9" * 5000, "²".encode("latin-1"), b"0x10"])
def test_a_length_that_is_none_is_none(length: bytes) -> None:
    assert body_bytes(Headers(raw=[(b"content-length", length)])) == 0


def test_a_body_that_waits_to_be_asked_for_is_not_asked_for() -> None:
    """A body behind `Expect: 100-continue` is not received, because that would send 100 Continue."""
    asked = list[Message]()
    scope = {**PLAIN, "headers": [(b"expect", b"100-continue")]}
    assert held(LateRefusals(1), receiving([REST], asked), scope)
    assert not asked
