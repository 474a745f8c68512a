"""Tests of the refusals ahead of Ray Serve: the middleware and its decision, before a small application."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from ray.serve._private.http_util import validate_http_proxy_callback_return
from ray.serve._private.utils import call_function_from_import_path
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.admission import Places
from deployments.http.auth import Access, RequireKey, cors
from deployments.http.early_refusals import EarlyRefusals
from deployments.http.middleware import ADMITTED, RequestGuard, middlewares
from deployments.http.refusals import Refusals
from deployments.live_config import LiveConfig
from deployments.local.endpoint import read_env
from harness.repository import ROOT
from tests.support.fake_engine import FakeService

KEY = "a-key-of-this-test"
USUAL: dict[str, Any] = {"method": "POST", "url": "/predict", "content": b"abc"}


class PretendedReplica(FakeService):
    """Stands in for a replica. It expects `wait_s` for a small body and three times as long for a large one."""

    def __init__(self, wait_s: float, max_queue_wait_s: float = 1.0, key: str | None = None, origin: str = "") -> None:
        self.in_places, self.places_made = Places(ongoing=4, queued=4), 0
        super().__init__(wait_s, lambda: self.in_places, max_queue_wait_s=max_queue_wait_s)
        around, require_key = cors((origin,)) if origin else [], Middleware(RequireKey, Access(None, key))
        RequestGuard.guard = EarlyRefusals(self, Refusals(self, ("/predict",), 2048), require_key, around)

    @property
    def refused(self) -> int:
        """Number of requests that were refused for overload."""
        return self.recorder.ended["Overloaded"]

    def _drop(self, bodies: int) -> None:
        self.places_made += bodies


@pytest.fixture(autouse=True)
def nobody_refuses() -> Iterator[None]:
    """Remove the replica's decision from the middleware before the test and after it."""
    RequestGuard.guard = None
    yield
    RequestGuard.guard = None


async def _served(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"served, {'asked' if ADMITTED in scope else 'not asked'}")(scope, receive, send)


def _ask(*requests: dict[str, Any]) -> list[httpx.Response]:
    """Send requests one after the other; each differs in some arguments from an image of 3 bytes."""
    app: ASGIApp = _served
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(**{**USUAL, **request}) for request in requests]

    return asyncio.run(ask())


def _statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


def test_serve_env_names_the_middleware() -> None:
    """Serve finds and accepts the middleware that serve.env names."""
    path = read_env(ROOT / "serve.env")["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    middleware, *_ = validate_http_proxy_callback_return(call_function_from_import_path(path))
    assert str(middleware.cls) == str(RequestGuard)


def test_a_process_without_a_replica_refuses_nothing() -> None:
    """A process without a replica, as Serve's own proxy, refuses nothing. The application learns that no check ran."""
    (answer,) = _ask({})
    assert answer.text == "served, not asked"


def test_what_would_wait_too_long_is_refused_before_anything_else() -> None:
    """A request that would wait too long gets a problem with Retry-After and a request id, its own or a new one."""
    replica = PretendedReplica(wait_s=1.5)
    named, fresh, other = _ask({"headers": {"X-Request-ID": "mine"}}, {}, {})
    assert _statuses([named, fresh, other]) == [503] * 3
    problem = named.json()
    assert problem["type"] == "urn:darkroom:overloaded"
    assert "would wait for 1.50 s; the limit is 1 s (max_queue_wait_s)" in problem["detail"]
    assert (named.headers["content-type"], named.headers["retry-after"]) == ("application/problem+json", "1")
    assert problem["request_id"] == named.headers["x-request-id"] == "mine"
    assert fresh.json()["request_id"] == fresh.headers["x-request-id"] != other.headers["x-request-id"]
    assert replica.refused == 3


def test_what_would_not_wait_too_long_comes_in() -> None:
    """A request whose expected wait is at the limit is let in, and the application need not check again."""
    replica = PretendedReplica(wait_s=1.0)
    assert [answer.text for answer in _ask({}, {"method": "PUT"})] == ["served, asked"] * 2
    assert replica.refused == 0


def test_a_new_limit_holds_at_once() -> None:
    replica = PretendedReplica(wait_s=1.5)
    assert _statuses(_ask({})) == [503]
    replica.live = LiveConfig(max_queue_wait_s=2.0)
    assert _statuses(_ask({})) == [200]


@pytest.mark.parametrize("other", [{"method": "GET"}, {"url": "/info"}, {"url": "/-/healthz"}, {"url": "/predictions"}])
def test_only_predictions_are_refused(other: dict[str, str]) -> None:
    """Only predictions are refused for overload; requests that monitor the service are always answered."""
    PretendedReplica(wait_s=100.0)
    assert _statuses(_ask(other)) == [200]


def test_a_large_body_is_refused_where_a_small_one_comes_in() -> None:
    """A large body may be refused where a small one is let in, also if the expected wait was computed a moment ago."""
    PretendedReplica(wait_s=0.5)
    assert _statuses(_ask({"content": bytes(5000)}, {}, {"content": bytes(6000)})) == [503, 200, 503]


def test_a_client_with_little_time_is_refused_at_once() -> None:
    """A request whose own time is shorter than the expected wait is refused at once; one with more time is let in."""
    PretendedReplica(wait_s=0.5)
    short = {"headers": {"X-Request-Timeout-Ms": "400"}}
    (answer,) = _ask(short)
    assert answer.status_code == 503
    assert "the limit is 0.4 s (the time limit of the request)" in answer.json()["detail"]
    assert _statuses(_ask({"headers": {"X-Request-Timeout-Ms": "600"}})) == [200]


def test_a_client_without_a_key_is_told_that() -> None:
    """A client without a valid key gets 401 also under overload, because a later try would be refused as well."""
    replica = PretendedReplica(wait_s=100.0, key=KEY)
    good, wrong = {"Authorization": f"Bearer {KEY}"}, {"Authorization": "Bearer another-key-of-this-test"}
    answers = _ask({}, {"headers": wrong}, {"headers": good})
    assert _statuses(answers) == [401, 401, 503]
    types = [answer.json()["type"].removeprefix("urn:darkroom:") for answer in answers]
    assert types == ["missing-key", "wrong-key", "overloaded"]
    assert answers[0].headers["www-authenticate"].startswith("Bearer")
    assert all(answer.json()["request_id"] == answer.headers["x-request-id"] for answer in answers)
    assert replica.recorder.ended == {"MissingKey": 1, "WrongKey": 1, "Overloaded": 1}


def test_what_is_wrong_otherwise_is_for_the_application() -> None:
    """A request with a malformed deadline is left to the application, which reports the error instead of overload."""
    PretendedReplica(wait_s=100.0)
    assert _statuses(_ask({"headers": {"X-Request-Timeout-Ms": "soon"}}, {})) == [200, 503]


def _in_replica(count: int, *requests: dict[str, Any]) -> list[httpx.Response]:
    """Return the answers to requests while this many others are in the replica without an answer."""
    done, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] == b"slow":
            arrived.release()
            await done.wait()
        await _served(scope, receive, send)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(RequestGuard(app)), base_url="http://test"
        ) as client:
            slow = [asyncio.create_task(client.post("/predict?slow")) for _ in range(count)]
            for _ in range(count):
                await arrived.acquire()
            answers = [await client.request(**{**USUAL, **request}) for request in requests]
            done.set()
            assert _statuses(await asyncio.gather(*slow)) == [200] * count
            return answers

    return asyncio.run(ask())


def test_who_waits_before_serve_is_counted() -> None:
    """Requests between middleware and engine count too: 6 in the replica wait 1.5 times as long as the engine's 4."""
    replica = PretendedReplica(wait_s=0.7)
    assert _statuses(_in_replica(5, {}, {"url": "/info"})) == [200, 200]
    refused, other = _in_replica(6, {}, {"url": "/info"})
    assert (refused.status_code, other.status_code) == (503, 200)
    assert "would wait for 1.05 s" in refused.json()["detail"]
    replica.engine.wait_s = 0.0
    assert _statuses(_in_replica(7, {})) == [200]
    (refused,) = _in_replica(8, {})
    assert "8 requests are in the replica; the limit is 8 (max_ongoing_requests and max_que" in refused.json()["detail"]
    replica.in_places = Places(4, -1)
    assert _statuses(_in_replica(20, {})) == [200]


@pytest.mark.parametrize(("taken", "made"), [(2, 0), (3, 1), (4, 1 + 2)])
def test_places_are_made_where_next_to_none_are_free(taken: int, made: int) -> None:
    """If three of four places or more are taken, each new request makes slow bodies give up places."""
    replica = PretendedReplica(wait_s=0.0)
    assert _statuses(_in_replica(taken, {}, {"url": "/info"})) == [200, 200]
    assert replica.places_made == made


def test_the_queue_is_not_gone_through_for_every_refusal() -> None:
    """The expected wait is computed at most every 10 ms: with 500 requests in the queue it takes 0.2 ms."""
    replica = PretendedReplica(wait_s=100.0)
    guard = RequestGuard.guard
    assert isinstance(guard, EarlyRefusals)
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}

    async def ask() -> None:
        for _ in range(50):
            assert guard._refused(Request(scope))

    asyncio.run(ask())
    assert 1 <= len(replica.engine.asked_bytes) < 10


def test_pages_of_other_origins_may_read_the_refusal() -> None:
    PretendedReplica(wait_s=100.0, origin="https://example.org")
    (answer,) = _ask({"headers": {"Origin": "https://example.org"}})
    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
