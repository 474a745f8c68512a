"""Whole numbers in the query of a URL or in a header."""

import re
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from deployments.monitoring.last_minute import WINDOW_SECONDS
from deployments.request_errors import MalformedRequest
from deployments.service_config import LiveConfig

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"

_SMALL_NUMBER: Final = re.compile(r"0*([0-9]{1,9})")
"""A number below 10**9; only ASCII digits, unlike Python's `isdecimal`."""

_ANY_NUMBER: Final = re.compile(r"[0-9]+")
_MAX_SHOWN_CHARACTERS: Final = 40


def timeout_s(request: Request, live: LiveConfig) -> float:
    """Return the time limit of a request in seconds: its X-Request-Timeout-Ms, or else the configured limit.

    Raises:
        MalformedRequest: the header is no whole number above 0.
    """
    given = request.headers.getlist(TIMEOUT_HEADER)
    if not given:
        return live.request_timeout_s
    milliseconds = _number(given[0]) if len(given) == 1 else None
    if not milliseconds:
        raise MalformedRequest(f"{TIMEOUT_HEADER}: {_shown(given)} is not a whole number of milliseconds, 1 or more")
    return min(milliseconds / 1000, live.request_timeout_s)


def refuse_orders(request: Request) -> None:
    """Refuse headers that Ray Serve obeys; they get this far only if serve.env is not read.

    Raises:
        MalformedRequest: the request has such a header.
    """
    for name in ("X-Request-Disconnect-Disabled", "X-Request-Timeout-Seconds"):
        if name in request.headers:
            raise MalformedRequest(f"{name} is not for clients to send; {TIMEOUT_HEADER} limits the time of a request")


def seconds(request: Request) -> int:
    """Read the parameter `seconds` of `GET /stats`: part of the last minute, all of it by default.

    Raises:
        MalformedRequest: the value is no whole number from 1 to 60.
    """
    return _parameter(request, "seconds", WINDOW_SECONDS, WINDOW_SECONDS)


def head_parameters(request: Request, live: LiveConfig, most: Mapping[str, int]) -> dict[str, int]:
    """Read the parameters of the model's head, such as `top_k` of a classifier.

    Args:
        request: may have them in its query.
        live: has the defaults.
        most: the largest value of each parameter, by name.

    Raises:
        MalformedRequest: a value is no whole number from 1 to the largest value.
    """
    return {name: _parameter(request, name, live.of_head.get(name, limit), limit) for name, limit in most.items()}


def _parameter(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.getlist(name)
    if not given:
        return default
    number = _number(given[0]) if len(given) == 1 else None
    if number is None or not 1 <= number <= most:
        raise MalformedRequest(f"{name}={_shown(given)} is not a whole number from 1 to {most}")
    return number


def _number(text: str) -> int | None:
    """Parse a whole number; 10**9 for one of more than nine digits, None for any other text."""
    if found := _SMALL_NUMBER.fullmatch(text):
        return int(found[1])
    return 10**9 if _ANY_NUMBER.fullmatch(text) else None


def _shown(given: list[str]) -> str:
    return " and ".join(text[:_MAX_SHOWN_CHARACTERS] for text in given[:2])
