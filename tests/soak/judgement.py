"""Judgement of answers: the right answer to every file is known before the first fault."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from tests.soak.samples import Sample

SCORE_TOLERANCE: Final = 0.02
"""Scores differ a little with the batch size; those of another file differ by more."""

_DEADLINE: Final = "urn:darkroom:deadline-exceeded"
_BLAMES: Final = ("urn:darkroom:decode-timeout", "urn:darkroom:decoder-crashed")


@dataclass(frozen=True, slots=True)
class Best:
    """The first class of a file, as the service gave it without load."""

    label: str
    score: float


Truth = Mapping[str, Best]
"""First class of each sample, by its name."""


class AnswerKind(enum.StrEnum):
    """Kind of an answer."""

    RIGHT = "right"
    REFUSED = "refused"  # 503 with Retry-After
    LATE = "late"  # 504 to a client that set a deadline
    BLAMED = "blamed"  # right, except that a good image was blamed for the end or the stop of its worker
    WRONG = "wrong"
    BROKEN = "broken"  # another 5xx, or no complete answer


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of a client, and its right answer.

    Args:
        samples: the images in their order.
        many: whether the answer is a list.
        has_deadline: whether the client set one.
        refusal: status with which the whole request must be refused, if it must.
    """

    samples: tuple[Sample, ...]
    many: bool
    has_deadline: bool = False
    refusal: HTTPStatus | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer; status 0 if it is not complete, with the reason as `body`."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind of an answer, and the reason if it is not right."""

    kind: AnswerKind
    detail: str = ""
    blamed: int = 0  # good images that were blamed


def judge(ask: Ask, answer: HttpAnswer, truth: Truth) -> Verdict:
    """Compare one answer with its request."""
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.headers.get("retry-after", "").isdecimal():
        return Verdict(AnswerKind.REFUSED)
    if answer.status in (0, *range(500, 600)):
        if ask.has_deadline and answer.status == HTTPStatus.GATEWAY_TIMEOUT and _problem_type(answer) == _DEADLINE:
            return Verdict(AnswerKind.LATE)
        return Verdict(AnswerKind.BROKEN, f"{answer.status}: {answer.body[:200].decode(errors='replace')}")
    if ask.refusal or not ask.many:
        return _judge_single(ask, answer, truth)
    return _judge_many(ask, answer, truth)


def _judge_single(ask: Ask, answer: HttpAnswer, truth: Truth) -> Verdict:
    body = _parsed(answer)
    if ask.refusal:
        if answer.status == ask.refusal and body.get("status") == ask.refusal:
            return Verdict(AnswerKind.RIGHT)
        return Verdict(AnswerKind.WRONG, f"status {answer.status} for a request to be refused with {ask.refusal:d}")
    result = body if answer.status == HTTPStatus.OK else {"error": body or {"status": None}}
    if answer.status != result.get("error", {}).get("status", HTTPStatus.OK):
        return Verdict(AnswerKind.WRONG, f"status {answer.status} with the problem {body}")
    return _in_all([_fault(ask.samples[0], result, truth)])


def _judge_many(ask: Ask, answer: HttpAnswer, truth: Truth) -> Verdict:
    if answer.status != HTTPStatus.OK:
        return Verdict(AnswerKind.WRONG, f"status {answer.status} for many images: {answer.body[:200]!r}")
    results = _parsed(answer).get("results")
    if not isinstance(results, list) or len(results) != len(ask.samples):
        count = len(results) if isinstance(results, list) else "no"
        return Verdict(AnswerKind.WRONG, f"{count} results for {len(ask.samples)} images")
    return _in_all([_fault(sample, result, truth) for sample, result in zip(ask.samples, results, strict=True)])


def _fault(sample: Sample, result: Mapping[str, Any], truth: Truth) -> Verdict:
    """Judge the result of one image."""
    error = result.get("error")
    if sample.status is not None:
        status = error.get("status") if error else HTTPStatus.OK
        if status == sample.status:
            return Verdict(AnswerKind.RIGHT)
        return Verdict(AnswerKind.WRONG, f"{sample.name}: {status} where {sample.status:d} is right")
    if error:
        kind = AnswerKind.BLAMED if error.get("type") in _BLAMES else AnswerKind.WRONG
        return Verdict(kind, f"{sample.name}: a good image, refused: {error}", blamed=1)
    if not result.get("predictions"):
        return Verdict(AnswerKind.WRONG, f"{sample.name}: neither predictions nor an error")
    best, expected = result["predictions"][0], truth[sample.name]
    if best["label"] != expected.label or abs(best["score"] - expected.score) > SCORE_TOLERANCE:
        found = f"{best['label']} {best['score']:.3f}"
        return Verdict(AnswerKind.WRONG, f"{sample.name}: {found} where {expected.label} {expected.score:.3f} is right")
    return Verdict(AnswerKind.RIGHT)


def _in_all(verdicts: list[Verdict]) -> Verdict:
    """Judge an answer by its images: one wrong image makes it wrong, else one blamed image makes it blamed."""
    for kind in (AnswerKind.WRONG, AnswerKind.BLAMED):
        if found := [verdict for verdict in verdicts if verdict.kind == kind]:
            return Verdict(kind, "; ".join(verdict.detail for verdict in found), sum(v.blamed for v in found))
    return Verdict(AnswerKind.RIGHT)


def _problem_type(answer: HttpAnswer) -> str:
    return str(_parsed(answer).get("type"))


def _parsed(answer: HttpAnswer) -> dict[str, Any]:
    """Return the body as an object; empty if it is none."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
