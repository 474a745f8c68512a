"""Tests of the replica's class without Serve, for events that cannot be caused in a running service from outside."""

import asyncio
import gc
import logging
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import httpx
import pytest
from starlette.types import Message

from deployments.admission import UNLIMITED, Places
from deployments.http.early_refusals import EarlyRefusals
from deployments.http.lingering import Lingering
from deployments.http.middleware import RequestGuard
from deployments.replica import Replica
from deployments.service import Inference
from deployments.service_config import ServiceConfig
from deployments.version import version_of
from harness.photographs import jpeg, photograph
from harness.repository import ROOT
from tests.conftest import PIPELINE


class _Unserved(Replica):
    """A replica that closes its engine itself when it is dropped: only Serve could await the usual end."""

    def __del__(self) -> None:  # type: ignore[override]
        self._engine.close()
        self._watchdog.close()


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    """Return a started replica without a `user_config`."""
    replica, threshold = _Unserved.__new__(_Unserved), gc.get_threshold()
    asyncio.run(replica.__init__(ServiceConfig(pipeline=PIPELINE)))  # type: ignore[misc]  # Serve awaits it too
    replica._service.admission._places = lambda: UNLIMITED  # only Serve knows the places
    yield replica
    replica._engine.close()
    replica._watchdog.close()
    RequestGuard.guard = None
    gc.unfreeze()  # other tests run in this process
    gc.set_threshold(*threshold)


def test_no_collection_looks_at_what_stays(replica: Replica) -> None:  # noqa: ARG001
    """Modules and model are excluded from garbage collection, which would otherwise delay every answer."""
    assert gc.get_freeze_count() > 10 * len(gc.get_objects())


def test_collections_are_rare(replica: Replica) -> None:  # noqa: ARG001
    """Garbage collections are rare: requests in work hold many objects, none of which is garbage."""
    assert gc.get_threshold()[0] >= 10_000


def test_a_start_with_a_bad_user_config_fails(replica: Replica) -> None:
    """A bad `user_config` fails the start, as there is no old one to keep; the message says what to write."""
    with pytest.raises(ValueError, match=r"user_config: .*topk: no such key; did you mean top_k\?"):
        asyncio.run(replica.reconfigure({"topk": 5}, None))


@pytest.mark.parametrize("value", [True, "5", 5.0, None, float("nan")])
def test_a_setting_of_another_kind_is_refused(replica: Replica, value: object) -> None:
    """A setting of the wrong type is refused in a replica as in the file: `yes` is not a number."""
    with pytest.raises(ValueError, match=r"user_config: top_k: Input should be a valid integer"):
        asyncio.run(replica.reconfigure({"top_k": value}, None))


def test_a_parameter_that_the_head_does_not_have_is_refused(replica: Replica) -> None:
    says = (
        "user_config: threshold: 0.3 is set, and the head in service, Classify, has no such parameter .it has top_k.;"
    )
    with pytest.raises(ValueError, match=says):
        asyncio.run(replica.reconfigure({"threshold": 0.3}, None))


def test_what_nobody_has_foreseen_is_answered_and_logged(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error is a 500 with the request id, by which the log has the reason.

    The answer does not show it.
    """

    async def broken(*_: object) -> Inference:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(replica._service, "infer", broken)
    with caplog.at_level(logging.ERROR, "deployments"):
        response = asyncio.run(_posted(replica, {"Content-Type": "image/jpeg", "X-Request-ID": "an-id"}))
    problem = response.json()
    assert (response.status_code, problem["status"], problem["request_id"]) == (500, 500, "an-id")
    assert response.headers["content-type"] == "application/problem+json"
    assert "by nothing" not in response.text
    assert "ZeroDivisionError: by nothing" in caplog.text


def test_without_its_middleware_the_application_refuses_late_too(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the middleware, as on a cluster without serve.env, refusals are held back too."""
    monkeypatch.setattr(replica._engine, "expected_wait_s", lambda **_: 100.0)
    headers = {"Content-Type": "image/jpeg", "X-Request-Timeout-Ms": "2000"}
    began_s = time.monotonic()
    response = asyncio.run(_posted(replica, headers))
    assert (response.status_code, response.json()["type"]) == (503, "urn:darkroom:overloaded")
    assert time.monotonic() - began_s >= 0.05
    assert replica._http._refusals._late.waiting == 0


def test_the_body_of_a_request_that_is_refused_late_is_dropped_meanwhile(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body of a request is read and dropped while its refusal is held back. Many of them would take much memory."""
    guard, taken_while_held, sent = RequestGuard.guard, list[int](), list[Message]()
    assert isinstance(guard, EarlyRefusals)
    monkeypatch.setattr(replica._engine, "expected_wait_s", lambda **_: 100.0)
    monkeypatch.setattr(replica._service.admission, "_places", lambda: Places(4, 4))

    async def receive() -> Message:
        taken_while_held.append(guard._refusals._late.waiting)
        if len(taken_while_held) > 5:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"x", "more_body": len(taken_while_held) < 5}

    async def send(message: Message) -> None:
        sent.append(message)

    app = Lingering(RequestGuard(replica.__serve_build_asgi_app__()), on_demand=True)
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 503
    assert taken_while_held[:5] == [1] * 5


def test_info_is_answered_without_the_metadata_of_the_package(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GET /info works from a source tree that is not installed; the launcher waits for this answer."""

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("deployments.version.version", missing)
    version_of.cache_clear()
    response = asyncio.run(_got(replica, "/info"))
    assert response.status_code == 200
    assert f'version = "{response.json()["darkroom"]}"' in (ROOT / "pyproject.toml").read_text()


def test_what_needs_no_key_costs_little(replica: Replica) -> None:
    """A request that needs no key takes few milliseconds, so that many of them hardly delay other requests."""
    for path in ("/openapi.json", "/info", "/nowhere"):
        assert asyncio.run(_seconds_of(replica, path)) < 0.005, path  # most of this time is the client's


def test_an_old_name_is_refused_with_the_new_one(replica: Replica) -> None:
    """An old setting name is refused in a running replica with the new name; the settings in force stay."""
    asyncio.run(replica.reconfigure({"max_queue_wait_s": 5.0}, None))
    asyncio.run(replica.reconfigure({"max_wait_s": 6.0}, None))
    assert (
        replica._refused_user_config
        == "max_wait_s: this setting is called max_queue_wait_s now; write max_queue_wait_s"
    )
    assert replica._service.live.max_queue_wait_s == 5.0


async def _seconds_of(replica: Replica, path: str) -> float:
    """Return the processor time of one request."""
    async with _client(replica) as client:
        await client.get(path)
        began_at = time.thread_time()
        for _ in range(20):
            await client.get(path)
        return (time.thread_time() - began_at) / 20


async def _posted(replica: Replica, headers: dict[str, str]) -> httpx.Response:
    async with _client(replica) as client:
        return await client.post("/predict", content=jpeg(photograph("cat")), headers=headers)


async def _got(replica: Replica, path: str) -> httpx.Response:
    async with _client(replica) as client:
        return await client.get(path)


def _client(replica: Replica) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(replica.__serve_build_asgi_app__(), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")
