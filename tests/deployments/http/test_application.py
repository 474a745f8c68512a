"""Tests of a replica's routes: a protocol beside /predict is one class."""

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.http import application
from deployments.http.application import HttpApplication
from deployments.http.auth import Access
from deployments.http.body import read_images
from deployments.http.predict_route import Predict
from deployments.service import Deadline, InferenceService
from deployments.service_config import ServiceConfig
from harness.photographs import jpeg, photograph
from pipeline.errors import EngineClosed
from pipeline.records import Outcome, Prediction
from tests.support.fake_engine import FakeService

CAT, KEY = jpeg(photograph("cat")), "a-key-of-this-test"


class InWords:
    """A protocol that answers with the first class of an image as plain text."""

    PATH: ClassVar[str] = "/in-words"
    METHODS: ClassVar[Sequence[str]] = ("POST",)

    def __init__(self, service: InferenceService, _config: ServiceConfig) -> None:
        self._service = service

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        deadline = Deadline(10.0)
        with self._service.hold("192.0.2.7") as hold:
            sent = await read_images(request, self._service.live, hold, deadline)
            inference = await self._service.infer(sent.images, deadline)
        (outcome,) = inference.outcomes
        self._service.note_answered(inference)
        return PlainTextResponse(_in_words(outcome))


def _in_words(outcome: Outcome) -> str:
    if isinstance(outcome, Prediction):
        label: str = outcome.as_json(top_k=1)["predictions"][0]["label"]
        return label
    return str(outcome.error)


@pytest.fixture(autouse=True)
def _second_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "PROTOCOLS", (Predict, InWords))


def post(service: FakeService, path: str, *, key: str = KEY, early: bool = True) -> httpx.Response:
    """Return a replica's answer to an image; with `early` the check ahead of Serve runs too."""
    http = HttpApplication(service, ServiceConfig(), Access(None, KEY), dict, lambda _: {}, lambda: None)
    inner = http.asgi()

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await http.early_refusals(inner, scope, receive, send)

    async def answer(app: ASGIApp) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(path, content=CAT, headers={"Authorization": f"Bearer {key}"})

    return asyncio.run(answer(outer if early else inner))


def test_a_second_protocol_answers_beside_predict() -> None:
    """A second protocol answers on its own path, with or without a final slash, and its requests are counted."""
    service = FakeService()
    assert [post(service, path).text for path in ("/in-words", "/in-words/")] == ["cat", "cat"]
    assert post(service, "/predict").json()["predictions"][0]["label"] == "cat"
    assert len(service.recorder.answered) == 3
    assert post(service, "/in-other-words").status_code == 404


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("path", ["/predict", "/in-words"])
def test_every_protocol_needs_a_key(path: str, *, early: bool) -> None:
    """Every protocol needs a key, whether the check runs ahead of Serve or behind it, and however long the queue is."""
    for service in (FakeService(), FakeService(wait_s=100.0)):
        answer = post(service, path, key="another-key-of-this-test", early=early)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:darkroom:wrong-key")
        assert service.recorder.ended == {"WrongKey": 1}


@pytest.mark.parametrize("path", ["/predict", "/in-words"])
def test_every_protocol_is_refused_ahead_of_serve(path: str) -> None:
    service = FakeService(wait_s=100.0)
    answer = post(service, path)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:darkroom:overloaded")
    assert service.recorder.ended == {"Overloaded": 1}


def _asked(path: str, check: Callable[[], None] = lambda: None) -> httpx.Response:
    """Return the answer to a GET request without a key, below the prefix that Serve has set."""
    http = HttpApplication(FakeService(), ServiceConfig(), Access(None, KEY), dict, lambda _: {}, check)
    transport = httpx.ASGITransport(http.asgi(), root_path="/models/cats")

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(f"/models/cats{path}")

    return asyncio.run(answer())


def test_a_balancer_asks_one_application_without_a_key() -> None:
    """GET /healthz is 200 only while the engine can answer."""

    def closed() -> None:
        raise EngineClosed("the engine is not running")

    assert (_asked("/healthz").status_code, _asked("/healthz").json()) == (200, {"status": "ok"})
    assert _asked("/healthz", closed).status_code == 503


def test_the_description_names_the_prefix_of_the_application() -> None:
    """Paths in the OpenAPI document are below its server URL; an unknown path names the document of the application."""
    assert _asked("/openapi.json").json()["servers"] == [{"url": "/models/cats"}]
    assert "GET /models/cats/openapi.json lists what is served" in _asked("/nowhere").json()["detail"]
