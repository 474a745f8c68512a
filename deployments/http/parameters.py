"""Whole numbers that a client gives: in the query of a URL, or in a header."""

import re
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from deployments.monitoring.last_minute import WINDOW_SECONDS
from deployments.request_errors import MalformedRequest
from deployments.service_config import LiveConfig

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"

_SMALL_NUMBER: Final = re.compile(r"0*([0-9]{1,9})")
"""A number below a milliard; Python's own idea of digits goes beyond ASCII."""

_ANY_NUMBER: Final = re.compile(r"[0-9]+")
_MAX_SHOWN_CHARACTERS: Final = 40


def timeout_s(request: Request, live: LiveConfig) -> float:
    """Seconds until the client wants no answer any more: its X-Request-Timeout-Ms, or else what is configured.

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
    """Refuse headers that Ray Serve obeys; they come as far as this only where serve.env is not read.

    Raises:
        MalformedRequest: one is there.
    """
    for name in ("X-Request-Disconnect-Disabled", "X-Request-Timeout-Seconds"):
        if name in request.headers:
            raise MalformedRequest(f"{name} is not for clients to send; {TIMEOUT_HEADER} limits the time of a request")


def seconds(request: Request) -> int:
    """Reads how much of the last minute `GET /stats` should tell of: all of it where `seconds` is not given.

    Raises:
        MalformedRequest: it is no whole number from 1 to 60.
    """
    return _parameter(request, "seconds", WINDOW_SECONDS, WINDOW_SECONDS)


def head_parameters(request: Request, live: LiveConfig, most: Mapping[str, int]) -> dict[str, int]:
    """Reads the parameters of the model's head, as `top_k` of a classifier's.

    Args:
        request: has them in its query.
        live: has those that a request leaves out.
        most: the largest value of each, by name.

    Raises:
        MalformedRequest: one is no whole number from 1 to the most.
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
    """Its value; of more than nine digits the largest that has nine; None where it is no whole number."""
    if found := _SMALL_NUMBER.fullmatch(text):
        return int(found[1])
    return 10**9 if _ANY_NUMBER.fullmatch(text) else None


def _shown(given: list[str]) -> str:
    return " and ".join(text[:_MAX_SHOWN_CHARACTERS] for text in given[:2])
