"""Tests of the figures of a replica's last minute, second by second."""

from typing import Any

import pytest

from deployments.monitoring.last_minute import PREDICTED_OUTCOME, LastMinute, Snapshot
from pipeline.stats import EngineStats


def reading(at_s: float, *, backlog_s: float = 0.0, **usage: Any) -> Snapshot:
    """Return a reading of two workers that decode half of the time, and one batch that computes a quarter of it."""
    facts: dict[str, Any] = {
        "batches": {},
        "images_dropped": 0,
        "workers_replaced": 0,
        "in_work": 0,
        "free_slots": 8,
    } | usage
    return Snapshot(
        at_s,
        EngineStats(at_s, at_s / 4, decode_workers=1, most_decoding=2, workers_ready=1, concurrent_batches=1, **facts),
        loop_s=at_s / 10,
        process_s=0.9 * at_s,
        cores=2,
        cores_busy=0.6,
        backlog_s=backlog_s,
    )


def answer(minute: LastMinute, took_s: float) -> None:
    """Note an answer: a quarter of its time is reading, the rest the model's."""
    minute.now.note_answer((took_s / 4, 0.0, 0.0, 0.0, 0.0, 0.75 * took_s, 0.0), took_s)


def test_at_first_it_was_idle() -> None:
    """Before its first full second a replica is shown as idle: a second is counted when it is over."""
    minute = LastMinute(reading(5.0), "cpu")
    answer(minute, 1.0)
    stats = minute.stats(60)
    assert (stats["window_s"], stats["state"], stats["requests"]) == (1.0, "idle", {})


def test_figures_are_worked_out_once_a_second() -> None:
    """The figures are computed once a second, however often they are requested, as they take some milliseconds."""
    minute = LastMinute(reading(100.0), "cpu")
    assert minute.stats(10) is minute.stats(10)
    answer(minute, 1.0)
    minute.tick(reading(101.0))
    assert minute.stats(10)["requests"] == {PREDICTED_OUTCOME: 1}


def test_seconds_are_added_up() -> None:
    """Rates and shares refer to the time that has really passed, also where a tick is late."""
    minute = LastMinute(reading(100.0), "cpu")
    answer(minute, 1.0)
    minute.now.images[PREDICTED_OUTCOME] += 1
    minute.tick(reading(101.5, batches={1: 1}))
    answer(minute, 2.0)
    minute.now.images.update([PREDICTED_OUTCOME, "UndecodableImage"])
    minute.now.requests["Overloaded"] += 1
    minute.tick(reading(103.0, batches={1: 1, 3: 1}, workers_replaced=1, in_work=5))
    stats = minute.stats(2)
    assert stats["window_s"] == pytest.approx(3.0)
    assert (stats["requests_per_s"], stats["images_per_s"]) == pytest.approx((1.0, 1.0))
    assert stats["requests"] == {PREDICTED_OUTCOME: 2, "Overloaded": 1}
    assert stats["images"] == {PREDICTED_OUTCOME: 2, "UndecodableImage": 1}
    assert stats["latency_ms"]["p50"] == pytest.approx(1500)
    assert stats["stages_ms"]["read"] == pytest.approx(375)
    assert stats["decode_workers"] == {"count": 1, "at_most": 2, "busy": pytest.approx(0.5), "replaced": 1}
    assert stats["device"] == {
        "kind": "cpu",
        "concurrent_batches": 1,
        "busy": pytest.approx(0.25),
        "images_per_batch": 2.0,
    }
    assert (stats["event_loop"]["busy"], stats["cores"]["busy"]) == pytest.approx((0.1, 0.6))
    assert stats["in_work"] == 5
    assert (stats["state"], stats["verdict"].split(":")[0]) == ("overloaded", "overloaded")


@pytest.mark.parametrize(("device", "busy"), [("cpu", 0.1), ("cuda", 0.9)])
def test_the_interpreter_is_busy_with_every_thread_that_needs_it(device: str, busy: float) -> None:
    """On a GPU all threads of a replica count as interpreter time; on the CPU those that compute do not."""
    minute = LastMinute(reading(100.0), device)
    minute.tick(reading(101.0))
    assert minute.stats(1)["interpreter"]["busy"] == pytest.approx(busy)
    assert (minute.stats(1)["state"] == "interpreter-bound") == (device == "cuda")


def test_of_more_than_was_asked_for_nothing_is_told() -> None:
    """Figures cover only the requested seconds, and readings older than a minute are dropped."""
    minute = LastMinute(reading(0.0), "cuda")
    for second in range(1, 200):
        answer(minute, float(second))
        minute.tick(reading(float(second)))
    assert minute.stats(1)["requests"] == {PREDICTED_OUTCOME: 1}
    assert minute.stats(1)["latency_ms"]["p99"] == pytest.approx(199_000)
    assert minute.stats(60)["window_s"] == pytest.approx(60)
    assert minute.stats(60)["requests"] == {PREDICTED_OUTCOME: 60}


def test_a_minute_without_requests_has_no_latency() -> None:
    minute = LastMinute(reading(0.0), "cpu")
    minute.tick(reading(1.0))
    assert minute.stats(60)["latency_ms"] is None
    assert minute.stats(60)["requests_per_s"] == 0


def test_demand_counts_what_piles_up_but_not_the_service_s_own_tests() -> None:
    """Demand is that of requests: a replica without any is at rest, although it tests itself now and then."""
    minute = LastMinute(reading(0.0), "cpu")
    minute.tick(reading(1.0))
    assert minute.stats(1)["demand"] == 0
    answer(minute, 1.0)
    minute.tick(reading(2.0, backlog_s=0.5, in_work=1))
    assert minute.stats(1)["demand"] == pytest.approx(0.6 + 0.5 + 0.05)  # used, growing, waiting
    minute.tick(reading(3.0, backlog_s=0.5, in_work=1))
    assert minute.stats(1)["demand"] == pytest.approx(0.6 + 0.05)
    assert minute.stats(1)["backlog_s"] == 0.5
