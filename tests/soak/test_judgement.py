"""Tests of judging the answers in a soak."""

from http import HTTPStatus

import orjson
import pytest

from tests.soak.judgement import AnswerKind, Ask, HttpAnswer, judge
from tests.soak.samples import Sample
from tests.soak.soaking import A_CAT, A_CUP, A_TORN, CAT, CUP, TORN, TRUTH, Document, predicted, problem


def _verdict(ask: Ask, status: int, body: Document, **headers: str) -> AnswerKind:
    return judge(ask, HttpAnswer(status, headers, orjson.dumps(body)), TRUTH).kind


@pytest.mark.parametrize(
    ("sample", "status", "body", "kind"),
    [
        (CAT, 200, A_CAT, AnswerKind.RIGHT),
        (CAT, 200, A_CUP, AnswerKind.WRONG),
        (CAT, 200, predicted("tabby", 0.7), AnswerKind.WRONG),  # the pixels of another file
        (CAT, 422, problem(422, "undecodable-image"), AnswerKind.WRONG),
        (CAT, 422, problem(422, "decode-timeout"), AnswerKind.BLAMED),
        (TORN, 422, problem(422, "undecodable-image"), AnswerKind.RIGHT),
        (TORN, 415, problem(415, "unsupported-format"), AnswerKind.WRONG),
        (TORN, 422, problem(415, "unsupported-format"), AnswerKind.WRONG),  # the line and the body disagree
        (TORN, 200, A_CAT, AnswerKind.WRONG),
        (CAT, 500, {}, AnswerKind.BROKEN),
        (CAT, 504, problem(504, "deadline-exceeded"), AnswerKind.BROKEN),  # no client had set a deadline
    ],
)
def test_an_answer_for_one_image(sample: Sample, status: int, body: Document, kind: AnswerKind) -> None:
    assert _verdict(Ask((sample,), many=False), status, body) == kind


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        ([A_CAT, A_TORN, A_CUP], AnswerKind.RIGHT),
        ([A_CUP, A_TORN, A_CAT], AnswerKind.WRONG),  # the order
        ([A_CAT, A_CUP, A_TORN], AnswerKind.WRONG),
        ([A_CAT, A_TORN], AnswerKind.WRONG),  # the count
        ([A_CAT, A_CAT, A_CUP], AnswerKind.WRONG),  # a bad image predicted
        ([{"error": problem(422, "decoder-crashed")}, A_TORN, A_CUP], AnswerKind.BLAMED),
        ([{"error": problem(422, "decoder-crashed")}, A_CUP, A_CUP], AnswerKind.WRONG),  # the worse verdict counts
    ],
)
def test_an_answer_for_many_images(results: list[Document], kind: AnswerKind) -> None:
    assert _verdict(Ask((CAT, TORN, CUP), many=True), 200, {"results": results}) == kind


def test_only_a_503_that_says_when_is_a_refusal() -> None:
    ask = Ask((CAT,), many=False)
    assert _verdict(ask, 503, problem(503, "overloaded"), **{"retry-after": "2"}) == AnswerKind.REFUSED
    assert _verdict(ask, 503, problem(503, "overloaded")) == AnswerKind.BROKEN


def test_a_deadline_may_pass_for_a_client_that_has_set_one() -> None:
    ask = Ask((CAT,), many=False, has_deadline=True)
    assert _verdict(ask, 504, problem(504, "deadline-exceeded")) == AnswerKind.LATE
    assert _verdict(ask, 504, {}) == AnswerKind.BROKEN
    assert _verdict(ask, 200, A_CAT) == AnswerKind.RIGHT


def test_a_request_that_is_wrong_as_a_whole_is_refused_as_it_should_be() -> None:
    ask = Ask((), many=False, refusal=HTTPStatus.REQUEST_TIMEOUT)
    assert _verdict(ask, 408, problem(408, "body-timeout")) == AnswerKind.RIGHT
    assert _verdict(ask, 400, problem(400, "malformed-request")) == AnswerKind.WRONG
    assert _verdict(ask, 200, A_CAT) == AnswerKind.WRONG


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_body_that_is_no_answer_is_wrong(body: bytes) -> None:
    for ask in (Ask((CAT,), many=False), Ask((CAT,), many=True)):
        assert judge(ask, HttpAnswer(200, {}, body), TRUTH).kind == AnswerKind.WRONG
