"""What a soak makes of an answer."""

from http import HTTPStatus

import orjson
import pytest

from tests.soak.corpus import Sample
from tests.soak.judge import Answer, Ask, Kind, judge
from tests.soak.soaking import A_CAT, A_CUP, A_TORN, CAT, CUP, TORN, TRUTH, Document, predicted, problem


def _verdict(ask: Ask, status: int, body: Document, **headers: str) -> Kind:
    return judge(ask, Answer(status, headers, orjson.dumps(body)), TRUTH).kind


@pytest.mark.parametrize(
    ("sample", "status", "body", "kind"),
    [
        (CAT, 200, A_CAT, Kind.RIGHT),
        (CAT, 200, A_CUP, Kind.WRONG),
        (CAT, 200, predicted("tabby", 0.7), Kind.WRONG),  # the pixels of another file
        (CAT, 422, problem(422, "undecodable-image"), Kind.WRONG),
        (CAT, 422, problem(422, "decode-timeout"), Kind.BLAMED),
        (TORN, 422, problem(422, "undecodable-image"), Kind.RIGHT),
        (TORN, 415, problem(415, "unsupported-format"), Kind.WRONG),
        (TORN, 422, problem(415, "unsupported-format"), Kind.WRONG),  # the line and the body disagree
        (TORN, 200, A_CAT, Kind.WRONG),
        (CAT, 500, {}, Kind.BROKEN),
        (CAT, 504, problem(504, "deadline-exceeded"), Kind.BROKEN),  # nobody had asked for one
    ],
)
def test_an_answer_for_one_image(sample: Sample, status: int, body: Document, kind: Kind) -> None:
    assert _verdict(Ask((sample,), many=False), status, body) == kind


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        ([A_CAT, A_TORN, A_CUP], Kind.RIGHT),
        ([A_CUP, A_TORN, A_CAT], Kind.WRONG),  # the order
        ([A_CAT, A_CUP, A_TORN], Kind.WRONG),
        ([A_CAT, A_TORN], Kind.WRONG),  # the count
        ([A_CAT, A_CAT, A_CUP], Kind.WRONG),  # a bad image predicted
        ([{"error": problem(422, "decoder-crashed")}, A_TORN, A_CUP], Kind.BLAMED),
        ([{"error": problem(422, "decoder-crashed")}, A_CUP, A_CUP], Kind.WRONG),  # the worse counts
    ],
)
def test_an_answer_for_many_images(results: list[Document], kind: Kind) -> None:
    assert _verdict(Ask((CAT, TORN, CUP), many=True), 200, {"results": results}) == kind


def test_only_a_503_that_says_when_is_a_refusal() -> None:
    ask = Ask((CAT,), many=False)
    assert _verdict(ask, 503, problem(503, "overloaded"), **{"retry-after": "2"}) == Kind.REFUSED
    assert _verdict(ask, 503, problem(503, "overloaded")) == Kind.BROKEN


def test_a_deadline_may_pass_for_a_client_that_has_set_one() -> None:
    ask = Ask((CAT,), many=False, has_deadline=True)
    assert _verdict(ask, 504, problem(504, "deadline-exceeded")) == Kind.LATE
    assert _verdict(ask, 504, {}) == Kind.BROKEN
    assert _verdict(ask, 200, A_CAT) == Kind.RIGHT


def test_a_request_that_is_wrong_as_a_whole_is_refused_as_it_should_be() -> None:
    ask = Ask((), many=False, refusal=HTTPStatus.REQUEST_TIMEOUT)
    assert _verdict(ask, 408, problem(408, "body-timeout")) == Kind.RIGHT
    assert _verdict(ask, 400, problem(400, "malformed-request")) == Kind.WRONG
    assert _verdict(ask, 200, A_CAT) == Kind.WRONG


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_a_body_that_is_no_answer_is_wrong(body: bytes) -> None:
    for ask in (Ask((CAT,), many=False), Ask((CAT,), many=True)):
        assert judge(ask, Answer(200, {}, body), TRUTH).kind == Kind.WRONG
