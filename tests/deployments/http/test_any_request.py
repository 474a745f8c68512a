"""Property tests of the HTTP application: no request makes a 500, or an answer that is neither JSON nor a problem.

Hypothesis builds headers and bodies from correct and wrong ones of real clients. There is no engine, because the tests
of decoding cover what a worker does with bytes.
"""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Scope

from deployments.http.application import HttpApplication
from deployments.http.auth import Access
from deployments.service_config import ServiceConfig
from harness.photographs import jpeg, photograph
from tests.deployments.http.test_multipart import NAMED, TEXT, form, part
from tests.support.fake_engine import FakeService

CAT = jpeg(photograph("cat"))[:3000]
IN_JSON = b'{"images": ["AAAA", "data:image/jpeg;base64,/9j%2FAA"]}'

BODIES = st.sampled_from([CAT, form(TEXT, part([NAMED], CAT)), IN_JSON, b"hello", b""]) | st.binary(max_size=30)
TYPES = st.sampled_from(
    [
        *["image/jpeg", "application/json", "multipart/form-data; boundary=x"] * 3,
        *["", "text/plain", "\xff", ";", "multipart/form-data", "application/x-www-form-urlencoded"],
        *["IMAGE/*;q=\xb2", "multipart/form-data; boundary=\xff; charset=idna", "application/json; charset=utf-16"],
    ]
)
PACKED: st.SearchStrategy[tuple[Callable[[bytes], bytes], str | None]] = st.sampled_from(
    [*[(bytes, None)] * 5, (gzip.compress, "gzip"), (zlib.compress, "deflate"), (gzip.compress, None)]
)
CODINGS = st.sampled_from(["gzip", "deflate", "br", "gzip, gzip", "", "\xff", "x" * 5000])
NUMBERS = st.sampled_from(
    ["3", "0", "9" * 5000, "000000001" + "9" * 5000, "\xb2", "%D9%A3", "%00", "1&top_k=2", "", "-1", "1e9", "1_0"]
)
NAMES = st.sampled_from(
    ["content-length", "content-encoding", "x-request-timeout-ms", "x-request-id", "authorization", "origin", "accept"]
)
PATHS = st.sampled_from([*["/predict"] * 9, "/stats", "/info", "/openapi.json", "/", "/%00", "//predict"])
METHODS = st.sampled_from([*["POST"] * 8, "PUT", "GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND"])


@dataclass
class AnyAnswer:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def app() -> ASGIApp:
    """Return the application, which allows pages of one other origin."""
    config = ServiceConfig(cors_origins=("https://example.org",))
    return HttpApplication(
        FakeService(), config, Access(None, None), dict, lambda seconds: {"seconds": seconds}, lambda: None
    ).asgi()


@st.composite
def requests(draw: st.DrawFn) -> tuple[Scope, list[bytes]]:
    """Draw a request that is nearly right in most cases."""
    pack, coding = draw(PACKED)
    body = bytearray(pack(draw(BODIES)))
    for at in draw(st.lists(st.integers(0, 400), max_size=1)):
        body[at : at + 1] = draw(st.binary(max_size=2))
    headers = [("content-type", draw(TYPES))] * draw(st.sampled_from([1, 1, 1, 0, 2]))
    headers += [("content-encoding", coding)] if coding else []
    headers += draw(st.lists(st.tuples(NAMES, NUMBERS | CODINGS), max_size=2))
    query = draw(st.sampled_from(["", "", "", "top_k=", "seconds=", "\xff%zz;&&=", "x="])) + draw(NUMBERS)
    path = draw(PATHS)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": draw(METHODS),
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    size = draw(st.sampled_from([1000, 7, 100_000]))
    return scope, [bytes(body[at : at + size]) for at in range(0, len(body), size)]


async def answer_to(app: ASGIApp, scope: Scope, pieces: list[bytes]) -> AnyAnswer:
    """Return the application's answer. An exception that leaves the application has been answered before."""
    sent: list[Message] = []
    left = [*pieces, b""]

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *parts = sent
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return AnyAnswer(start["status"], headers, b"".join(part.get("body", b"") for part in parts))


@given(requests())
@settings(max_examples=250, deadline=None)
def test_any_request_is_answered_as_promised(app: ASGIApp, request: tuple[Scope, list[bytes]]) -> None:
    """Every request is answered by JSON, or by a problem document that has the status of the answer."""
    scope, pieces = request
    answer = asyncio.run(answer_to(app, scope, pieces))
    is_in_a_hurry = any(name == b"x-request-timeout-ms" for name, _ in scope["headers"])
    assert answer.status < 500 or (is_in_a_hurry and answer.status in (503, 504))
    if scope["method"] in ("HEAD", "OPTIONS"):
        return
    kind = answer.headers["content-type"]
    document = json.loads(answer.body)
    if answer.status == 200:
        assert kind == "application/json"
        return
    assert kind == "application/problem+json", answer
    assert document["status"] == answer.status
    assert document["title"]
    assert len(document["detail"]) < 1000
