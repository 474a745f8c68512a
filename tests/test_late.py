"""Refusals that are held back."""

import asyncio
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope

from deployments.late import MOST_S, Late
from pipeline.errors import Overloaded

PLAIN: Scope = {"type": "http", "headers": []}
REST: Message = {"type": "http.request", "body": b"x", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def receiving(messages: Iterable[Message], asked: list[Message] | None = None) -> Receive:
    """What these messages come from, and none after them; `asked` is told each that was taken."""
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        message = left.pop(0)
        if asked is not None:
            asked.append(message)
        return message

    return receive


def held(late: Late, receive: Receive, scope: Scope = PLAIN, *, limit_s: float = 0.02, at_once: bool = False) -> bool:
    """Whether the client is still there after a refusal was held back."""
    return asyncio.run(late.hold(Overloaded("too much", at_once=at_once), limit_s, scope, receive))


def test_the_more_are_refused_the_later_each_is_told() -> None:
    """2 s at most, half of the time that the request has, and 50 ms for a few; beyond the limit none is held."""
    late = Late(500)
    for waiting, delay_s in ((0, 0.05), (19, 0.2), (49, 0.5), (199, MOST_S), (400, MOST_S), (500, 0.0)):
        late.waiting = waiting
        assert late.delay_s(60.0) == pytest.approx(delay_s)
    late.waiting = 300
    assert late.delay_s(0.3) == pytest.approx(0.3)


def test_what_comes_of_the_body_meanwhile_is_dropped() -> None:
    """It is in nobody's memory while the refusal waits."""
    asked = list[Message]()
    assert held(late := Late(1), receiving([REST], asked))
    assert (asked, late.waiting) == ([REST], 0)


def test_nobody_is_told_who_has_gone() -> None:
    assert not held(late := Late(1), receiving([REST, GONE]), limit_s=60.0)
    assert late.waiting == 0


def test_a_refusal_that_is_held_back_no_further_comes_at_once() -> None:
    """Beyond the limit, or where only this client's time is too short: nothing is waited for, or read."""
    assert held(Late(0), receiving([GONE]))
    assert held(Late(1), receiving([GONE]), at_once=True)


def test_a_body_that_waits_to_be_asked_for_is_not_asked_for() -> None:
    """To receive it would send 100 Continue."""
    asked = list[Message]()
    scope = {**PLAIN, "headers": [(b"expect", b"100-continue")]}
    assert held(Late(1), receiving([REST], asked), scope)
    assert not asked
