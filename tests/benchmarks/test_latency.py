"""What `make latency` counts with."""

import csv
from collections import Counter

import pytest

from benchmarks import k6, latency
from harness.load import Load


def test_what_k6_has_measured_is_read() -> None:
    """Milliseconds and one row a sample, of which most are of no interest here."""
    lines = (
        "metric_name,timestamp,metric_value,error_code,status",
        "http_req_duration,1700000000,20.5,,200",
        "http_req_waiting,1700000000,20.0,,200",
        "http_req_duration,1700000000,3.0,1503,503",
        "http_req_duration,1700000000,0.0,1212,0",
        "dropped_iterations,1700000000,2.0,,",
    )
    load = Load(1.0)
    k6._read(csv.DictReader(lines), load)
    assert (load.sent, load.took_s, load.refused) == (5, [0.0205], 1)
    assert load.others == {"503": 1, "k6 error 1212": 1, "dropped": 2}


def test_latency_is_told_by_the_median_round() -> None:
    """And counts are added up."""
    rounds = [
        [latency._of(Load(1.0, sent=4, took_s=[took_s] * 2, others=Counter({"503": 1, "closed": 1})), 4.0, 0.01)]
        for took_s in (0.01, 0.02, 0.06)
    ]
    (row,) = latency.rows([[{"load": "x", **facts} for facts in records] for records in rounds])
    assert row == ["x", "2.0", "0.50 (0.50 to 0.50)", "20", "20", "2.0", "3 of 12", "3"]


def test_in_a_perfect_queue_an_image_waits_for_those_before_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    load = latency.perfect_queue([0.0, 0.0, 0.5, 2.5], peak_per_s=2.0)
    assert load.took_s == [1.0, 1.0, 1.5, 1.0]
    assert load.sent == 4
