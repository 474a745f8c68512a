"""Tests of the replica's log: which lines an error leaves for an operator."""

import json
import logging
from typing import Any

import httpx
import pytest
from ray._common.formatters import JSONFormatter
from ray.serve._private.logging_utils import log_to_stderr_filter

from deployments import request_errors
from deployments.logs import log_refusal, log_unforeseen
from deployments.request_errors import Overloaded
from harness.local_service import Document
from harness.photographs import jpeg, photograph
from harness.roles import WORKER, role_of
from pipeline import errors
from pipeline.errors import DarkroomError, DeviceFailure, UndecodableImage
from tests.support.image_files import slow_png
from tests.support.running_service import Service, opened
from tests.support.waiting import until

CAT = jpeg(photograph("cat"))
CLASSES = [
    kind
    for module in (errors, request_errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, DarkroomError) and kind is not DarkroomError
]
STAGES = ("access", "admission", "read", "queue", "decode", "device", "start", "respond")


def _lines(service: Service, **fields: Any) -> list[Document]:
    return [line for line in service.log_lines() if fields.items() <= line.items()]


def _line(service: Service, **fields: Any) -> Document:
    """Return the only line with these values; the log may appear a moment after the answer."""
    (line,) = until(lambda: _lines(service, **fields))
    return line


def _as_json(caplog: pytest.LogCaptureFixture) -> Document:
    (record,) = caplog.records
    text = JSONFormatter().format(record)
    assert "\n" not in text
    line: Document = json.loads(text)
    return line


# ---- without a service ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_stage(kind: type[DarkroomError]) -> None:
    assert kind("").stage in STAGES


def test_the_line_of_a_server_error_holds_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A server error is one line, with the traceback and the stage in which it happened."""
    with caplog.at_level(logging.INFO, "deployments"):
        try:
            raise DeviceFailure("no answer")
        except DeviceFailure as error:
            log_refusal(error)
    line = _as_json(caplog)
    assert (line["levelname"], line["stage"], line["status"]) == ("ERROR", "device", 500)
    assert log_to_stderr_filter(caplog.records[0])
    assert "test_logs.py" in line["exc_text"]


@pytest.mark.parametrize(
    "error", [UndecodableImage("torn"), Overloaded("full")], ids=lambda error: type(error).__name__
)
def test_what_is_expected_has_no_traceback(error: DarkroomError, caplog: pytest.LogCaptureFixture) -> None:
    """An expected error, by bad input or overload, is logged without a traceback and not shown on the console."""
    with caplog.at_level(logging.INFO, "deployments"):
        log_refusal(error)
    line = _as_json(caplog)
    assert line["levelname"] == "INFO"
    assert "exc_text" not in line
    assert not log_to_stderr_filter(caplog.records[0])


def test_an_unforeseen_exception_is_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deployments"):
        try:
            raise ZeroDivisionError("by nothing")
        except ZeroDivisionError as error:
            log_unforeseen(error)
    line = _as_json(caplog)
    assert (line["error"], line["cause"], line["status"]) == ("ZeroDivisionError", "by nothing", 500)
    assert "test_logs.py" in line["exc_text"]


# ---- with one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "content_type", "error", "stage", "status"),
    [
        (b"hello", "text/plain", "UnsupportedContentType", "read", 415),
        (b"hello", "image/jpeg", "UnsupportedFormat", "decode", 415),
        (CAT[:2000], "image/jpeg", "UndecodableImage", "decode", 422),
    ],
)
def test_a_refusal_is_one_line(
    service: Service, content: bytes, content_type: str, error: str, stage: str, status: int
) -> None:
    """A refusal is one line, with the request id and the message that the client got."""
    refused = service.post(content, content_type).json()
    line = _line(service, request_id=refused["request_id"])
    assert (line["error"], line["stage"], line["status"]) == (error, stage, status)
    assert line["cause"] == refused["detail"]
    assert line["levelname"] == "INFO"
    assert line["asctime"]
    assert "exc_text" not in line


def test_each_bad_image_among_many_has_a_line(service: Service) -> None:
    """Each bad image among many has a line with its position, but without the client's file name."""
    identity, name = "test-of-positions-51c8", "holiday-in-secret.jpg"
    files = [("image", (name, data)) for data in (CAT, b"hello", CAT, CAT[:2000])]
    service.client.post("/predict", files=files, headers={"X-Request-ID": identity}).raise_for_status()
    until(lambda: len(_lines(service, request_id=identity)) == 2)
    lines = _lines(service, request_id=identity)
    found = [(line["position"], line["error"], line["status"]) for line in lines]
    assert found == [(1, "UnsupportedFormat", 415), (3, "UndecodableImage", 422)]
    assert not any(name in json.dumps(line) for line in service.log_lines())


def test_a_gpu_that_was_not_found_is_pointed_out_wherever_one_looks(service: Service) -> None:
    """A GPU that was not found is reported on the console, in the replica's log, and in GET /info while it serves."""
    info = service.info()
    if info["device"] == "cuda":
        pytest.skip("the service has found a GPU")
    (warning,) = info["warnings"]
    assert "device: auto found no GPU on any node of the cluster (1 alive)" in warning
    for line in until(lambda: _lines(service, cause=warning)):  # one line for each replica so far
        assert line["levelname"] == "WARNING"
    assert "on cpu (no GPU was found)" in service.output.read_text()


def test_what_is_not_served_is_logged(service: Service) -> None:
    refused = service.client.get("/nowhere").json()
    line = _line(service, request_id=refused["request_id"])
    assert (line["error"], line["stage"], line["status"]) == ("HTTPException", "access", 404)
    assert "GET /nowhere" in line["message"]


def test_a_client_that_goes_is_logged(service: Service) -> None:
    """A client that goes in the middle of its body is logged, once HAProxy has passed the request on."""
    before = len(_lines(service, error="ClientGone", stage="read"))
    with opened(service, content_length=1_000_000) as connection:
        connection.send(CAT)
        until(lambda: service.info()["held_bytes"] >= len(CAT))
    until(lambda: len(_lines(service, error="ClientGone", stage="read")) > before)
    line = _lines(service, error="ClientGone", stage="read")[-1]
    assert (line["status"], line["levelname"]) == (499, "INFO")
    assert line["request_id"]


def test_a_client_that_goes_while_it_waits_is_logged(service: Service) -> None:
    """A client that goes after its body has arrived, before its images are done, is logged."""
    identity = "test-of-leaving-7d20"
    with pytest.raises(httpx.ReadTimeout):
        service.post_files(*[slow_png()] * 10, headers={"X-Request-ID": identity}, timeout=httpx.Timeout(60, read=0.5))
    line = _line(service, request_id=identity)
    assert (line["error"], line["stage"], line["status"]) == ("ClientGone", "queue", 499)
    assert "closed its connection" in line["cause"]
    until(lambda: service.info()["in_work"] == 0)


def test_what_the_pipeline_logs_is_in_the_replicas_log(service: Service) -> None:
    """Lines of the pipeline, which does not know Ray, are in the replica's log; here that a decoder process died."""
    (replica,) = service.replicas()
    for process in replica.children(recursive=True):
        if role_of(process) == WORKER:
            process.kill()
    line = until(lambda: [line for line in service.log_lines() if "decoder process" in line["message"]])[-1]
    assert (line["levelname"], line["filename"], line["stage"]) == ("WARNING", "stage.py", "decode")
    assert service.post(CAT).status_code == 200
