"""Tests of the page of `darkroom top`."""

from typing import Any

import pytest
from rich.console import Console

from commands.view import view
from deployments.monitoring.last_minute import LastMinute, Snapshot
from deployments.monitoring.timeline import STAGES
from pipeline.stats import EngineStats


def _stats(replica: str, *answers: float, **usage: Any) -> dict[str, Any]:
    """Return the figures of a replica with this many answers a second, each of which took this many seconds."""
    facts: dict[str, Any] = {
        "batches": {4: 2},
        "images_dropped": 0,
        "workers_replaced": 0,
        "in_work": 3,
        "free_slots": 8,
    } | usage
    minute = LastMinute(
        Snapshot(
            0.0, EngineStats(0.0, 0.0, {}, 0, 0, 3, 3, 3, 1, 0, 8), 0.0, 0.0, cores=4, cores_busy=0.0, backlog_s=0.0
        ),
        "cpu",
    )
    for took_s in answers:
        minute.now.note_answer((took_s / len(STAGES),) * len(STAGES), took_s)
    minute.now.images["predicted"] = len(answers)
    minute.tick(
        Snapshot(
            1.0,
            EngineStats(2.7, 0.3, decode_workers=3, most_decoding=3, workers_ready=3, concurrent_batches=1, **facts),
            0.1,
            0.2,
            cores=4,
            cores_busy=0.5,
            backlog_s=0.2,
        )
    )
    return {"replica": replica, **minute.stats(1)}


def _text(*replicas: dict[str, Any]) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view("http://here", replicas))
    console.file.close()
    return console.export_text()


def test_a_replica_shows_what_is_busy_and_what_takes_how_long() -> None:
    text = _text(_stats("one", 0.07, 0.07, workers_replaced=2))
    assert "http://here  1 replica  last 1 s" in text
    assert "2.0 images/s  2.0 requests/s  3 images in work" in text
    assert "requests: predicted 2" in text
    assert "replica one  p50 70 ms  p95 70 ms  p99 70 ms" in text
    assert "decode-bound: workers 90% busy, device 30%; " in text
    shares = {line.split("━")[0].strip(): line for line in text.splitlines() if "━" in line}
    assert "90% 2 replaced" in shares["3 workers"]
    assert "30% 4.0 images a batch" in shares["device (cpu)"]
    assert "10%" in shares["interpreter"]
    assert "50% by all processes" in shares["4 cores"]
    assert "read 10.0  queue 10.0  decode 10.0  wait 10.0  copy 10.0  model 10.0  respond 10.0  ms" in text


def test_replicas_are_added_up_and_shown_one_by_one() -> None:
    """Figures of replicas are added up, and each replica is shown, also one that has answered nothing."""
    text = _text(_stats("one", 0.07), _stats("two"))
    assert "2 replicas" in text
    assert "1.0 images/s  1.0 requests/s  6 images in work" in text
    assert "replica two  nothing answered" in text


@pytest.mark.parametrize("length", range(1, 40))
def test_the_bar_of_the_stages_is_as_long_whatever_they_take(length: int) -> None:
    """The bar of the stages always has the same length: rounding neither adds nor loses a column."""
    stats = _stats("one", 0.07)
    stats["stages_ms"] = {stage: float((n * length) % 7 + 0.1) for n, stage in enumerate(STAGES)}
    (bar,) = [line for line in _text(stats).splitlines() if set(line.strip()) == {"━"}]
    assert len(bar.strip()) == 60
