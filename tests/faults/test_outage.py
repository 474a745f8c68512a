"""Tests of the sums of what clients saw during a fault, and of the bounds on them."""

from collections import Counter

from harness.connection import ServiceReply
from harness.single_requests import Answer
from tests.faults.alive import Fault
from tests.faults.outage import outage_of


def answer(due_at: float, took_s: float, status: int = 200, ended: str = "", body: bytes = b"") -> Answer:
    return Answer(ServiceReply(status, ended=ended, body=body), due_at, 0.0, took_s)


def test_a_service_is_whole_from_the_first_request_on_after_which_none_is_lost_or_slow() -> None:
    """A service has recovered when no later request is lost or slow: one good answer in between is not enough."""
    answers = [
        answer(9.0, 0.1),
        answer(10.0, 20.0, 0, "closed"),
        answer(11.0, 0.1),
        answer(12.0, 0.7),
        answer(13.0, 0.1),
        answer(14.0, 0.1),
    ]
    outage = outage_of(answers, 9.5)
    assert outage.lost == {"closed": 1}
    assert (outage.sent, outage.slow, outage.slowest_s, outage.whole_after_s) == (6, 1, 0.7, 3.5)


def test_where_nothing_is_lost_or_slow_the_service_has_been_whole_all_the_time() -> None:
    outage = outage_of([answer(9.0, 0.1), answer(10.0, 0.1)], 9.5)
    assert (outage.lost, outage.slow, outage.whole_after_s) == (Counter(), 0, 0.0)


def test_an_answer_for_another_picture_is_wrong() -> None:
    body = b'{"predictions": [{"label": "cat"}]}'
    answers = [
        answer(1.0, 0.1, body=body),
        answer(2.0, 0.1, body=body),
        answer(3.0, 0.1, 503),
        answer(4.0, 0.1, body=body),
    ]
    assert outage_of(answers, 0.0, ["cat", "dog"]).wrong == 2
    assert outage_of(answers, 0.0, ["cat"]).wrong == 0


def test_what_is_beyond_a_bound_is_told() -> None:
    answers = [answer(10.0, 0.1, 500), answer(11.0, 0.7), answer(12.0, 0.1)]
    outage = outage_of(answers, 9.5)
    assert Fault("", lambda _: None, 1.0, lost=1, slow=1, whole_s=2.5).complaints(outage) == []
    assert Fault("", lambda _: None, 1.0, lost=0, slow=0, whole_s=2.0).complaints(outage) == [
        "1 lost ({'500': 1}), at most 0",
        "1 slow, the slowest 0.7 s, at most 0",
        "whole after 2.5 s, at most 2 s",
    ]
