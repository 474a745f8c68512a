"""Tests of the limit on log lines: the first lines of a kind are logged, the rest are counted."""

import json
import logging
from collections.abc import Iterator

import pytest

from deployments import logs
from deployments.log_rate import BURST_LINES, LeftOut, LogRate
from deployments.logs import MAX_CAUSE_CHARACTERS, log_gone, log_left_out, log_no_such_page, log_refusal, log_unforeseen
from deployments.request_errors import MalformedRequest, Overloaded, WrongKey
from pipeline.errors import DeviceFailure, UndecodableImage


class _Clock:
    """A clock that stands still until it is set."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """Return the clock of the limit on log lines."""
    clock = _Clock()
    monkeypatch.setattr(logs, "_rate", LogRate[object](clock=clock))
    return clock


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Return the lines that are logged during the test."""
    with caplog.at_level(logging.INFO, "deployments"):
        yield caplog


def test_the_first_lines_of_each_kind_come_through_and_later_ones_at_a_rate() -> None:
    clock = _Clock()
    rate = LogRate[str](burst=3, lines_per_s=0.5, clock=clock)
    assert [rate.admits("a") for _ in range(5)] == [True, True, True, False, False]
    assert rate.admits("b")
    clock.now_s += 4.0
    assert [rate.admits("a") for _ in range(3)] == [True, True, False]
    clock.now_s += 1000.0
    assert [rate.admits("a") for _ in range(4)] == [True, True, True, False]


def test_those_that_were_left_out_are_told_of_once() -> None:
    """Suppressed lines are reported once, for each kind by itself, when the first of them is old enough."""
    clock = _Clock()
    rate = LogRate[str](burst=1, lines_per_s=0.001, clock=clock)
    for kind in "aaab":
        rate.admits(kind)
    assert rate.left_out(10.0) == []
    clock.now_s += 10.0
    rate.admits("b")
    assert rate.left_out(10.0) == [LeftOut("a", 2, 10.0)]
    assert rate.left_out(0.0) == [LeftOut("b", 1, 0.0)]
    assert rate.left_out(0.0) == []


def test_a_flood_of_any_kind_leaves_a_bounded_log(log: pytest.LogCaptureFixture, clock: _Clock) -> None:
    """A flood leaves a bounded log, whatever clients do: a burst of each kind, and later one line with the count."""
    unforeseen = ZeroDivisionError("by nothing")
    for _ in range(1000):
        log_refusal(Overloaded("full", retry_after_s=1))
        log_refusal(WrongKey("not one of those in force"))
        log_refusal(UndecodableImage("torn"), position=7)
        log_refusal(DeviceFailure("no answer"))
        log_no_such_page(ValueError("Not Found"), 404, f"GET /{_}")
        log_gone("queue")
        log_unforeseen(unforeseen)
    assert len(log.records) == 7 * BURST_LINES
    clock.now_s += 10.0
    log_left_out()
    told = [(line.getMessage(), line.levelname, line.more) for line in log.records[7 * BURST_LINES :]]  # type: ignore[attr-defined]
    assert told[0] == ("refused: Overloaded: 950 more like this in the last 10 s", "INFO", 950)
    assert ("image refused: UndecodableImage: 950 more like this in the last 10 s", "INFO", 950) in told
    assert ("unforeseen: ZeroDivisionError: 950 more like this in the last 10 s", "ERROR", 950) in told
    assert len(told) == 7
    log_left_out(after_s=0.0)
    assert len(log.records) == 7 * BURST_LINES + 7


@pytest.mark.usefixtures("clock")
def test_a_flood_of_one_kind_hides_no_other(log: pytest.LogCaptureFixture) -> None:
    """A single defect in a flood of refusals is logged with its traceback."""
    for _ in range(1000):
        log_refusal(Overloaded("full", retry_after_s=1))
    log_unforeseen(ZeroDivisionError("by nothing"))
    assert log.records[-1].exc_info


@pytest.mark.parametrize("sent", ["a\r\nERROR all is lost", "\x1b[2J", "\u2028\u202e", "\0", "\udcff"])
def test_what_a_client_has_sent_neither_begins_a_line_nor_moves_a_cursor(
    log: pytest.LogCaptureFixture, sent: str
) -> None:
    """Text from a client never adds a line or a control character to the log, neither in a message nor in a field."""
    log_refusal(MalformedRequest(f"top_k={sent} is no number"))
    log_no_such_page(ValueError(sent), 404, f"GET /{sent}")
    for line in log.records:
        assert line.getMessage().isprintable()
        assert line.cause.isprintable()  # type: ignore[attr-defined]


def test_a_line_has_a_bounded_length(log: pytest.LogCaptureFixture) -> None:
    """A log line has a bounded length, however long the quoted text is."""
    log_refusal(MalformedRequest("x" * 100_000))
    log_no_such_page(ValueError("y" * 100_000), 404, "GET /" + "\x1b" * 100_000)
    for line in log.records:
        assert len(json.dumps(vars(line), default=str)) < 10 * MAX_CAUSE_CHARACTERS
    assert "(100000 characters)" in log.records[0].getMessage()


def test_a_flood_from_the_pipeline_is_counted_as_well(caplog: pytest.LogCaptureFixture, clock: _Clock) -> None:
    """Lines of the pipeline are limited too: one image may cause one, with a traceback."""
    record = logging.LogRecord("pipeline.model.batcher", logging.WARNING, "batcher.py", 1, "%d are NaN", (1,), None)
    relay, serve = logs._Relay(), logging.getLogger("ray.serve")
    serve.addHandler(caplog.handler)
    try:
        for _ in range(1000):
            relay.emit(record)
        clock.now_s += 10.0
        log_left_out()
    finally:
        serve.removeHandler(caplog.handler)
    assert {line.getMessage() for line in caplog.records} == {
        "1 are NaN",
        "%d are NaN: 950 more like this in the last 10 s",
    }
    assert len(caplog.records) <= 2 * (BURST_LINES + 1)  # Serve's logger may have passed them on to pytest's too
