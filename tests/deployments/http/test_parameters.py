"""Tests of whole numbers in a URL or a header: the number that is checked is the number that is used."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from starlette.requests import Request

from deployments.http.parameters import TIMEOUT_HEADER, head_parameters, seconds, timeout_s
from deployments.live_config import LiveConfig
from deployments.request_errors import MalformedRequest
from pipeline.head_parameters import WholeNumber

LIVE = LiveConfig()


def asked(query: str = "", *timeouts: str) -> Request:
    headers = [(TIMEOUT_HEADER.lower().encode(), timeout.encode("latin-1")) for timeout in timeouts]
    return Request({"type": "http", "query_string": query.encode(), "headers": headers})


def of_top_k(request: Request) -> int:
    return int(head_parameters(request, LIVE, {"top_k": WholeNumber(5, 1, 10)})["top_k"])


@pytest.mark.parametrize(("parameter", "most"), [(of_top_k, 10), (seconds, 60)])
@pytest.mark.parametrize(
    "text",
    [
        *["", "0", "000", "-1", "+1", " 1", "1 ", "1.5", "1e1", "x", "\u00b2", "\u0663", "1_0", "61", "9" * 50],
        *["000000001" + "9" * 5000, "000000001000", "0" * 5000],
    ],
)
def test_what_is_no_number_in_range_is_refused(parameter: Callable[[Request], int], most: int, text: str) -> None:
    """Text that is not an ASCII whole number in range is refused, also with more digits than Python converts."""
    name = "top_k" if parameter is of_top_k else "seconds"
    with pytest.raises(MalformedRequest, match=f"is not a whole number from 1 to {most}$") as refused:
        parameter(asked(f"{name}={quote(text)}"))
    assert len(str(refused.value)) < 150


def test_a_number_is_used_as_it_is_written() -> None:
    """A number may have leading zeros; without one the default is used."""
    assert [of_top_k(asked(query)) for query in ("", "top_k=1", "top_k=10", "top_k=0000000003")] == [
        LIVE.top_k,
        1,
        10,
        3,
    ]
    assert [seconds(asked(query)) for query in ("", "seconds=59")] == [60, 59]


def test_a_number_given_twice_is_refused() -> None:
    """A number that is given twice is refused, and the error shows both values."""
    with pytest.raises(MalformedRequest, match="top_k=1 and 2 is not"):
        of_top_k(asked("top_k=1&top_k=2"))
    with pytest.raises(MalformedRequest, match="1 and 2 is not a whole number of milliseconds"):
        timeout_s(asked("", "1", "2"), LIVE)


@pytest.mark.parametrize("text", ["", "0", "00000000000", "-1", "1.5", "\u00b2", "soon"])
def test_a_time_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequest, match=r"X-Request-Timeout-Ms: .* is not a whole number of milliseconds"):
        timeout_s(asked("", text), LIVE)


def test_a_time_is_shortened_and_never_longer() -> None:
    """A client may shorten its deadline but never lengthen it, however many digits it sends."""
    times = [timeout_s(asked("", text), LIVE) for text in ("1", "0001500", "120001", "9" * 12, "1" + "0" * 5000)]
    assert times == [0.001, 1.5, *[LIVE.request_timeout_s] * 3]
