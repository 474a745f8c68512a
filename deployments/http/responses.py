"""Outcomes and errors as JSON documents, with their status and headers."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from starlette.responses import Response

from deployments.http.content_coding import ACCEPTED_CODINGS
from deployments.http.statuses import UNAUTHORIZED, UNAVAILABLE, status_of
from deployments.request_errors import Overloaded, UnsupportedContentEncoding, WrongKey
from pipeline.errors import DarkroomError
from pipeline.head_parameters import Value
from pipeline.records import Outcome, Prediction

_RETRY_AFTER_S: Final = 1
_BEARER_CHALLENGE: Final = 'Bearer realm="darkroom"'  # RFC 6750, section 3


def answer(model: str, outcomes: Sequence[Outcome], *, many: bool, parameters: Mapping[str, Value]) -> Response:
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
        body = {"model": model, "results": [_result(outcome, parameters) for outcome in outcomes]}
    elif isinstance(only := outcomes[0], Prediction):
        body = {"model": model, **only.as_json(**parameters)}
    else:
        raise only.error
    return _json(body)


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


def _result(outcome: Outcome, parameters: Mapping[str, Value]) -> Mapping[str, Any]:
    if isinstance(outcome, Prediction):
        return outcome.as_json(**parameters)
    return {"error": _problem(outcome.error)}


def _problem(error: DarkroomError) -> dict[str, Any]:
    return {**described(error), "status": status_of(error)}


def _json(
    body: Mapping[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), status, headers, media_type)
