"""Numbers and words in the query of a URL or in a header."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from starlette.requests import Request

from deployments.live_config import LiveConfig
from deployments.monitoring.last_minute import WINDOW_SECONDS
from deployments.request_errors import MalformedRequest
from pipeline.head_parameters import Parameter, Value, WholeNumber, whole_number

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"

_SECONDS: Final = WholeNumber(WINDOW_SECONDS, 1, WINDOW_SECONDS)
_MAX_SHOWN_CHARACTERS: Final = 40
_NO_FIELDS: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})


def timeout_s(request: Request, live: LiveConfig) -> float:
    """Return the time limit of a request in seconds: its X-Request-Timeout-Ms, or else the configured limit.

    Raises:
        MalformedRequest: the header is no whole number above 0.
    """
    given = request.headers.getlist(TIMEOUT_HEADER)
    if not given:
        return live.request_timeout_s
    milliseconds = whole_number(given[0]) if len(given) == 1 else None
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
    given = request.query_params.getlist("seconds")
    return int(_value("seconds", _SECONDS, given)) if given else WINDOW_SECONDS


def head_parameters(
    request: Request, live: LiveConfig, known: Mapping[str, Parameter], fields: Mapping[str, Sequence[str]] = _NO_FIELDS
) -> dict[str, Value]:
    """Read the parameters of the model's head, such as `top_k` of a classifier.

    Args:
        request: may have them in its query.
        live: has the defaults.
        known: the parameters of the head, by name.
        fields: the text fields of a form, by name.

    Raises:
        MalformedRequest: a value is not allowed, or is given twice.
    """
    values = live.of_head(known)
    for name, parameter in known.items():
        if given := [*request.query_params.getlist(name), *fields.get(name, ())]:
            values[name] = _value(name, parameter, given)
    return values


def _value(name: str, parameter: Parameter, given: Sequence[str]) -> Value:
    value = parameter.parsed(given[0]) if len(given) == 1 else None
    if value is None:
        raise MalformedRequest(f"{name}={_shown(given)} is not {parameter.allowed}")
    return value


def _shown(given: Sequence[str]) -> str:
    return " and ".join(text[:_MAX_SHOWN_CHARACTERS] for text in given[:2])
