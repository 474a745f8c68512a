"""Outcomes and errors as JSON documents, with their status and headers."""

import asyncio
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from starlette.responses import Response

from deployments.http.content_coding import ACCEPTED_CODINGS
from deployments.http.statuses import UNAUTHORIZED, UNAVAILABLE, status_of
from deployments.logs import log_unforeseen
from deployments.request_errors import Overloaded, UnsupportedContentEncoding, WrongKey
from pipeline.errors import DarkroomError, HeadFailed
from pipeline.head_parameters import Value
from pipeline.records import Outcome, Prediction, Rejection
from pipeline.users_code import in_place

_ENCODED_AT_ONCE: Final = 32
"""Images whose results are encoded before the event loop runs other tasks: 0.9 ms for vectors of 1,280 numbers."""

_RETRY_AFTER_S: Final = 1
_BEARER_CHALLENGE: Final = 'Bearer realm="darkroom"'  # RFC 6750, section 3

Encoded = TypeVar("Encoded")


async def answer(model: str, outcomes: Sequence[Outcome], *, many: bool, parameters: Mapping[str, Value]) -> Response:
    """Make the response with a prediction for each image, in order; an image of many may have an `error` instead.

    Args:
        model: name of the model.
        outcomes: outcomes of the images, in order.
        many: whether to answer with a list.
        parameters: parameters of the model's head, e.g. `top_k`.

    Raises:
        ImageError: the only image has no prediction.
    """
    if many:
        return _json({"model": model, "results": await _results(outcomes, parameters)})
    only = outcomes[0]
    if isinstance(only, Rejection):
        raise only.error
    try:
        return await _in_thread_if_long([only], lambda: _json({"model": model, **only.as_json(**parameters)}))
    except Exception as error:
        log_unforeseen(error)
        raise HeadFailed(in_place(error)) from error


def refusal(error: DarkroomError, request_id: str) -> Response:
    """Make the response to a refused request: a problem document (RFC 9457)."""
    body = {**_problem(error), "request_id": request_id}
    headers = {}
    if body["status"] == UNAVAILABLE:
        headers["Retry-After"] = str(error.retry_after_s if isinstance(error, Overloaded) else _RETRY_AFTER_S)
    if body["status"] == UNAUTHORIZED:
        headers["WWW-Authenticate"] = _BEARER_CHALLENGE + (
            ', error="invalid_token"' if isinstance(error, WrongKey) else ""
        )
    if isinstance(error, UnsupportedContentEncoding):
        headers["Accept-Encoding"] = ACCEPTED_CODINGS
    return _json(body, body["status"], headers, "application/problem+json")


def problem(
    status: int, title: str, detail: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a problem document without a `DarkroomError`: for an unknown path, or an unforeseen exception."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": request_id}
    return _json(body, status, headers, "application/problem+json")


def document(body: Mapping[str, Any]) -> Response:
    """Make a JSON response."""
    return _json(body)


def described(error: DarkroomError) -> dict[str, Any]:
    """Describe an error by type, title and detail, as in a problem document (RFC 9457)."""
    urn, title = _names(type(error).__name__)
    return {"type": urn, "title": title, "detail": str(error)}


@functools.cache
def _names(kind: str) -> tuple[str, str]:
    """Derive type and title of a problem from the name of its class."""
    words = re.findall(r"[A-Z][a-z]*", kind)
    return "urn:darkroom:" + "-".join(words).lower(), " ".join(words).capitalize()


async def _results(outcomes: Sequence[Outcome], parameters: Mapping[str, Value]) -> orjson.Fragment:
    """Encode the results of many images, some at a time, so that other requests are answered meanwhile."""
    parts = []
    for first in range(0, len(outcomes), _ENCODED_AT_ONCE):
        if first:
            await asyncio.sleep(0)
        some = outcomes[first : first + _ENCODED_AT_ONCE]
        parts.append(await _in_thread_if_long(some, partial(_encoded, some, parameters)))
    return orjson.Fragment(b"[" + b",".join(parts) + b"]")


async def _in_thread_if_long(outcomes: Sequence[Outcome], encode: Callable[[], Encoded]) -> Encoded:
    if any(isinstance(outcome, Prediction) and outcome.takes_long for outcome in outcomes):
        return await asyncio.to_thread(encode)
    return encode()


def _encoded(outcomes: Sequence[Outcome], parameters: Mapping[str, Value]) -> bytes:
    """Encode results as members of a list; if one of them fails, each for itself."""
    try:
        results = [_result(outcome, parameters) for outcome in outcomes]
        return orjson.dumps(results, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    except Exception:  # noqa: BLE001 - a head of the user's may raise anything; `_encoded_alone` logs it
        return b",".join(_encoded_alone(outcome, parameters) for outcome in outcomes)


def _result(outcome: Outcome, parameters: Mapping[str, Value]) -> Mapping[str, Any]:
    return outcome.as_json(**parameters) if isinstance(outcome, Prediction) else {"error": _problem(outcome.error)}


def _encoded_alone(outcome: Outcome, parameters: Mapping[str, Value]) -> bytes:
    try:
        return orjson.dumps(_result(outcome, parameters), option=orjson.OPT_SERIALIZE_NUMPY)
    except Exception as error:  # noqa: BLE001
        log_unforeseen(error)
        return orjson.dumps({"error": _problem(HeadFailed(in_place(error)))})


def _problem(error: DarkroomError) -> dict[str, Any]:
    return {**described(error), "status": status_of(error)}


def _json(
    body: Mapping[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), status, headers, media_type)
