"""Tests of CORS: web pages of which origins may call the service."""

import httpx
import pytest

from deployments.service_config import ServiceConfig
from harness.photographs import jpeg, photograph
from tests.support.keys import KEY, NEXT, bearer
from tests.support.running_service import Service, live_settings
from tests.support.several_applications import ORIGINS

CAT = jpeg(photograph("cat"))
STRANGER = "https://example.com"


@pytest.mark.parametrize(
    "origins",
    [("*",), ("https://a.org", "http://a.org:8080"), ("http://[::1]:3000",), ()],
    ids=lambda value: " ".join(value),
)
def test_origins_are_written_as_browsers_send_them(origins: tuple[str, ...]) -> None:
    assert ServiceConfig(cors_origins=origins).cors_origins == origins


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://Example.org", "https://*.example.org", "null", ""]
)
def test_an_origin_that_would_never_match_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"is not what a browser sends as origin; write"):
        ServiceConfig(cors_origins=(origin,))


def test_every_origin_is_written_alone() -> None:
    with pytest.raises(ValueError, match=r"\* means every origin; write it alone"):
        ServiceConfig(cors_origins=("*", "https://example.org"))


def _preflight(service: Service, origin: str) -> httpx.Response:
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return service.client.options("/predict", headers={"Origin": origin, **headers})


def _shared(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", ORIGINS)
def test_pages_of_a_configured_origin_may_call(guarded: Service, origin: str) -> None:
    """Pages of a configured origin may call and may read refusals, for a missing key or too large an image.

    Preflight requests need no key.
    """
    asked = _preflight(guarded, origin)
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, origin)
    assert asked.headers["access-control-allow-methods"] == "GET, POST, PUT"
    for header in ("authorization", "content-encoding", "x-request-timeout-ms"):
        assert header in asked.headers["access-control-allow-headers"].lower()
    too_large = CAT + b"\0" * live_settings(guarded.application)["max_image_bytes"]
    for body, key, status in ((CAT, KEY, 200), (CAT, NEXT, 401), (too_large, KEY, 413)):
        response = guarded.post(body, headers={**bearer(key), "Origin": origin})
        assert (response.status_code, _shared(response)["access-control-allow-origin"]) == (status, origin)
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("origin", [STRANGER, "null", ORIGINS[0] + ".evil.example", "https://example.org:8443"])
def test_pages_of_another_origin_may_not(guarded: Service, origin: str) -> None:
    """Answers do not name other origins, so a browser keeps them from pages of those origins."""
    for response in (
        _preflight(guarded, origin),
        guarded.post(CAT, headers={**bearer(KEY), "Origin": origin}),
        guarded.post(CAT, headers={"Origin": origin}),
    ):
        assert "access-control-allow-origin" not in response.headers


def test_without_origins_no_page_may_call(service: Service) -> None:
    """The shipped configuration sends no CORS header, so no web page may call."""
    assert _preflight(service, ORIGINS[0]).status_code == 204
    for response in (_preflight(service, ORIGINS[0]), service.post(CAT, headers={"Origin": ORIGINS[0]})):
        assert _shared(response) == {}
