"""Tests of request bodies: the limits on bytes, memory and time hold for every kind of body."""

import asyncio
import gzip
import json
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from deployments.http.body import SentImages, read_images
from deployments.live_config import LiveConfig
from deployments.memory_budget import MemoryBudget
from deployments.request_errors import (
    BodyTimeout,
    DeadlineExceeded,
    EmptyRequest,
    Overloaded,
    RequestTooLarge,
    UnsupportedContentEncoding,
    UnsupportedContentType,
)
from deployments.service import Deadline
from harness.photographs import jpeg, photograph
from pipeline.errors import ClientError, ImageTooLarge
from tests.support.pushed import content_of

CAT = jpeg(photograph("cat"))
FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + CAT + b"\r\n--x--\r\n"
IN_JSON = json.dumps({"images": ["AAAA"]}).encode()
MULTIPART, JSON = "multipart/form-data; boundary=x", "application/json"
PAUSE_S = 0.02


class Sent:
    """A request whose body arrives in pieces; None is a pause, and without an end the body never ends.

    Args:
        pieces: pieces of the body.
        headers: headers of the request.
        ends: whether the body ends.
    """

    def __init__(
        self, pieces: Sequence[bytes | None], headers: Sequence[tuple[str, str]], *, ends: bool = True
    ) -> None:
        self._pieces, self._ends = list(pieces), ends
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        self.request = Request({"type": "http", "query_string": b"", "headers": raw}, self._receive)
        self.received = 0

    async def _receive(self) -> Message:
        while self._pieces and self._pieces[0] is None:
            self._pieces.pop(0)
            await asyncio.sleep(PAUSE_S)
        if not self._pieces and not self._ends:
            await asyncio.Event().wait()
        body = self._pieces.pop(0) if self._pieces else b""
        self.received += len(body or b"")
        return {"type": "http.request", "body": body or b"", "more_body": bool(self._pieces) or not self._ends}


async def read_sent(
    sent: Sent, budget: MemoryBudget, live: LiveConfig, source: str = "a", limit_s: float = 120.0
) -> SentImages:
    with budget.hold(source) as hold:
        return await read_images(sent.request, live, hold, Deadline(limit_s))


def read(
    body: bytes, content_type: str | None, *headers: tuple[str, str], size: int = 65536, **limits: int
) -> list[bytes | str]:
    """Return the bytes or the error of each image in a body, and check that no memory is held afterwards."""
    named = [("Content-Type", content_type)] if content_type is not None else []
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    budget, live = MemoryBudget(1 << 30), LiveConfig().model_copy(update=limits)
    asked = asyncio.run(read_sent(Sent(pieces, [*named, *headers]), budget, live))
    assert budget.held_bytes == 0
    return [content_of(image) for image in asked.images]


@pytest.mark.parametrize(
    "content_type",
    [None, "", "image/jpeg", "IMAGE/JPEG", "image/jpeg; q=1", "application/octet-stream", "Binary/Octet-Stream"],
)
def test_bytes_are_one_image(content_type: str | None) -> None:
    assert read(CAT, content_type) == [CAT]


@pytest.mark.parametrize(("body", "content_type"), [(FORM, MULTIPART), (IN_JSON, JSON), (CAT, "image/jpeg")])
def test_every_kind_of_body_may_be_compressed(body: bytes, content_type: str) -> None:
    """Every kind of body may be compressed, and is then read as the same body without compression."""
    compressed = gzip.compress(body)
    for size in (100, 65536):
        assert read(compressed, content_type, ("Content-Encoding", "gzip"), size=size) == read(body, content_type)


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("application/x-www-form-urlencoded", "curl -d sends it by default.*--data-binary @photo.jpg"),
        ("multipart/mixed; boundary=x", "the only multipart type is multipart/form-data"),
        ("Multipart/Related", "unsupported content type multipart/related"),
        ("text/plain", "unsupported content type text/plain: send one image as"),
        ("\xff nonsense " + "x" * 5000, "nonsense"),
        (";;;=", "not read"),
    ],
)
def test_another_type_is_told_what_to_send(content_type: str, says: str) -> None:
    if content_type == ";;;=":
        assert read(CAT, content_type) == [CAT]
        return
    with pytest.raises(UnsupportedContentType, match=says) as refused:
        read(CAT, content_type)
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize("content_type", ["image/jpeg", MULTIPART, JSON])
def test_a_body_without_bytes_is_refused(content_type: str) -> None:
    with pytest.raises(EmptyRequest, match="the body is empty"):
        read(b"", content_type)
    with pytest.raises(EmptyRequest, match="the body is empty"):
        read(b"", content_type, ("Content-Encoding", "gzip"))


def test_the_size_that_is_limited_is_the_expanded_one() -> None:
    """The size limit counts the expanded bytes, exactly; a compressed body is expanded no further than the limit."""
    for kind, content_type, key, error in (
        (bytes(5000), "image/jpeg", "max_image_bytes", ImageTooLarge),
        (FORM, MULTIPART, "max_request_bytes", RequestTooLarge),
        (IN_JSON, JSON, "max_request_bytes", RequestTooLarge),
    ):
        for headers, body in (([], kind), ([("Content-Encoding", "gzip")], gzip.compress(kind))):
            read(body, content_type, *headers, **{key: len(kind)})
            with pytest.raises(error, match=rf"more than {len(kind) - 1} bytes, the limit \({key}\)"):
                read(body, content_type, *headers, **{key: len(kind) - 1})


def test_another_encoding_is_refused_before_the_body_is_read() -> None:
    sent = Sent([CAT], [("Content-Type", "image/jpeg"), ("Content-Encoding", "gzip"), ("Content-Encoding", "br")])
    with pytest.raises(UnsupportedContentEncoding, match="Content-Encoding: gzip,br"):
        asyncio.run(read_sent(sent, MemoryBudget(1 << 30), LiveConfig()))
    assert sent.received == 0


@pytest.mark.parametrize("length", ["134217729", "9" * 5000, "0" * 30 + "134217729"])
def test_an_announced_length_over_the_limit_is_refused_at_once(length: str) -> None:
    sent = Sent([CAT], [("Content-Type", JSON), ("Content-Length", length)])
    with pytest.raises(RequestTooLarge, match=r"the limit is 134217728 \(max_request_bytes\)"):
        asyncio.run(read_sent(sent, MemoryBudget(1 << 30), LiveConfig()))
    assert sent.received == 0


@pytest.mark.parametrize("content_type", ["image/jpeg", MULTIPART, JSON])
def test_a_body_that_comes_too_slowly_is_refused(content_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body below the least rate is refused, however regularly its bytes come.

    A faster one may take the whole body timeout.
    """
    monkeypatch.setattr("deployments.http.body.BODY_GRACE_S", 2 * PAUSE_S)
    budget, headers = MemoryBudget(1 << 20), [("Content-Type", content_type)]

    def read_slowly(pieces: Sequence[bytes | None], *, ends: bool, **limits: float) -> None:
        live = LiveConfig().model_copy(update=limits)
        asyncio.run(read_sent(Sent(pieces, headers, ends=ends), budget, live))

    body = {"image/jpeg": CAT, MULTIPART: FORM, JSON: IN_JSON}[content_type]
    dribble = [None, *(piece for byte in body[:200] for piece in (bytes([byte]), None))]
    with pytest.raises(BodyTimeout, match=r"\d bytes of the body .* 1000 bytes a second .* \(min_body_bytes_per_s\)"):
        read_slowly(dribble, ends=False)
    with pytest.raises(BodyTimeout, match=r"within 0\.1 s \(body_timeout_s\)"):
        read_slowly(dribble[1:], ends=False, min_body_bytes_per_s=1, body_timeout_s=0.1)
    steady = [piece for at in range(0, len(body), len(body) // 5) for piece in (body[at : at + len(body) // 5], None)]
    read_slowly(steady, ends=True, min_body_bytes_per_s=1)
    assert budget.held_bytes == 0


def test_a_body_is_waited_for_no_longer_than_its_request_has() -> None:
    """Reading a body ends at the request's deadline or the body timeout. The error names the one that came first."""
    silent = Sent([], [("Content-Type", "image/jpeg")], ends=False)
    live = LiveConfig().model_copy(update={"body_timeout_s": 2 * PAUSE_S})
    with pytest.raises(DeadlineExceeded, match=r"not answered within 0\.02 s"):
        asyncio.run(read_sent(silent, MemoryBudget(1 << 20), live, limit_s=PAUSE_S))
    with pytest.raises(BodyTimeout, match="body_timeout_s"):
        asyncio.run(read_sent(silent, MemoryBudget(1 << 20), live))


def test_a_body_that_gives_way_is_told_so() -> None:
    """A body that must give its memory to another source is refused at once, while it waits for its next piece."""

    async def outcomes() -> Sequence[SentImages | BaseException]:
        budget, headers = MemoryBudget(len(CAT) * 5 // 2), [("Content-Type", "image/jpeg")]
        hog, good = Sent([CAT, CAT], headers, ends=False), Sent([None, CAT], headers)
        first = asyncio.create_task(read_sent(hog, budget, LiveConfig(), "hog"))
        second = asyncio.create_task(read_sent(good, budget, LiveConfig(), "good"))
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert budget.held_bytes == 0
        return list(results)

    given_up, answered = asyncio.run(outcomes())
    assert isinstance(answered, SentImages)
    assert isinstance(given_up, Overloaded)
    assert "dropped while it arrived, for others" in str(given_up)


def test_announcements_keep_nobody_out() -> None:
    """Announced bytes take no memory.

    Eighteen clients that announce all of it and send nothing keep no other client out.
    """

    async def answered() -> SentImages:
        budget, live = MemoryBudget(512 << 20), LiveConfig()
        headers = [("Content-Type", JSON), ("Content-Length", str(128 << 20))]
        idle = [asyncio.create_task(read_sent(Sent([], headers, ends=False), budget, live)) for _ in range(18)]
        await asyncio.sleep(0)
        assert budget.held_bytes == 0
        good = await read_sent(Sent([CAT], [("Content-Type", "image/jpeg")]), budget, live)
        for task in idle:
            task.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
        return good

    assert not asyncio.run(answered()).many


def test_nothing_of_a_refused_body_is_kept_by_its_error() -> None:
    """The error of a refused body keeps none of its bytes alive.

    A refusal may be held back for seconds, with its traceback.
    """
    for content_type, body in (("image/jpeg", CAT), (MULTIPART, FORM[: len(CAT)])):
        sent = Sent([body], [("Content-Type", content_type)], ends=False)
        live = LiveConfig().model_copy(update={"body_timeout_s": PAUSE_S})
        with pytest.raises(ClientError) as refused:
            asyncio.run(read_sent(sent, MemoryBudget(1 << 20), live))
        kept = [
            value
            for entry in refused.traceback
            for value in entry.frame.f_locals.values()
            if getattr(value, "_pieces", None) or getattr(getattr(value, "_part", None), "_pieces", None)
        ]
        assert kept == []
