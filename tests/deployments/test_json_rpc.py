"""Tests of a protocol beside HTTP: one file on top of the inference service (`tests/support/json_rpc.py`)."""

import asyncio
import base64
import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from deployments.service import InferenceService
from harness.photographs import jpeg, photograph
from pipeline.engine import Engine
from pipeline.records import EncodedImage, Outcome
from tests.support.answers import CAT_LABELS
from tests.support.fake_engine import FakeRecorder, FakeService
from tests.support.json_rpc import BUSY, INVALID, answer

CAT = jpeg(photograph("cat"))


def line(images: Sequence[bytes], **params: Any) -> bytes:
    """Return a request with these images."""
    encoded = [base64.b64encode(image).decode() for image in images]
    return json.dumps({"jsonrpc": "2.0", "id": 7, "params": {"images": encoded, **params}}).encode()


def test_a_second_protocol_gets_the_same_predictions(engine: Engine) -> None:
    """A second protocol gets the engine's own predictions, with an error in the place of a bad image.

    All is counted.
    """

    async def submit(images: list[EncodedImage]) -> Future[list[Outcome]]:
        return engine.submit([images])[0]

    recorder = FakeRecorder()
    service = InferenceService(engine, submit, recorder)
    reply = asyncio.run(answer(service, line([CAT, b"GIF89a", CAT]), "192.0.2.7"))
    first, bad, last = reply["result"]["images"]
    assert first == last
    assert first["label"] in CAT_LABELS
    assert bad["error"]["type"] == "urn:darkroom:unsupported-format"
    assert len(recorder.images) == 3
    ((stages_s, total_s),) = recorder.answered
    assert sum(stages_s) > 0
    assert reply["result"]["ms"] == pytest.approx(1e3 * total_s, abs=0.01)
    assert service.held_bytes == 0


def test_a_second_protocol_is_refused_by_the_same_limits() -> None:
    """A second protocol is refused by the same limits and error names; only the codes are its own."""
    refusals = [
        (FakeService(wait_s=5.0, max_queue_wait_s=1.0), {}, BUSY, "overloaded"),
        (FakeService(wait_s=0.2), {"timeout_s": 0.1}, BUSY, "overloaded"),
        (FakeService(max_bytes_in_flight=100, max_request_bytes=100, max_image_bytes=100), {}, BUSY, "overloaded"),
        (FakeService(max_request_work_s=1e-9), {}, INVALID, "request-too-costly"),
    ]
    for service, params, code, name in refusals:
        reply = asyncio.run(answer(service, line([CAT], **params), "192.0.2.7"))
        assert (reply["id"], reply["error"]["code"]) == (7, code)
        assert reply["error"]["data"]["type"] == f"urn:darkroom:{name}"
        assert service.recorder.ended.total() == 1
        assert service.engine.requests == []
        assert service.held_bytes == 0
