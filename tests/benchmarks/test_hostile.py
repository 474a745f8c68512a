"""Tests of a part of `make hostile`: which requests are refused. Times are not tested."""

from benchmarks import hostile
from harness.target import Form, Target
from tests.support.running_service import Service


def test_a_flood_of_costly_images_costs_nobody_else_an_answer(service: Service) -> None:
    """A flood of costly images costs other clients no answer.

    Costly images wait in their own queue, one in work at a time.
    """
    host, _, port = service.url.removeprefix("http://").partition(":")
    target = Target(host, int(port), "/predict", lambda data: Form("image/*", data))
    facts = hostile.measure(target, hostile.kinds()["png, RGBA, 16 bits, interlaced"], for_s=3.0)
    assert facts["good_lost"] == {}
    assert facts["good"] == 10
    assert facts["answered"] > 0
    assert set(facts["otherwise"]) <= {"503"}


def test_a_record_is_a_row() -> None:
    """Every record becomes a row of the table, also where requests of the good client were lost."""
    facts = {"sent_per_s": 99.6, "answered": 3, "otherwise": {"503": 900}}
    good = {
        "good": 20,
        "good_p50_ms": 20.4,
        "good_p99_ms": 70.0,
        "good_lost": {"503": 1, "closed": 1},
        "grown_bytes": 3e6,
    }
    row = hostile.row({"kind": "a png", "kb": 0.12, **facts, **good})
    assert row == ["a png", "0.1", "100", "3", "20", "70", "2 of 20", "3"]
    assert len(row) == len(hostile.HEADER)
