"""Tests of the cells in the table of faults."""

from benchmarks import fault_cells


def test_the_table_sums_the_runs_up() -> None:
    runs = [
        {"good": 7, "lost": 2, "lost_got": {"500": 2}, "bad_got": {"422": 1}, "grown_bytes": 1e6},
        {"good": 7, "lost": 0, "lost_got": {}, "bad_got": {"422": 1}, "grown_bytes": 3e6},
        {"good": 7, "lost": 1, "lost_got": {"408": 1}, "bad_got": {"500": 1}, "grown_bytes": 2e6},
    ]
    assert fault_cells.neighbours_and_memory(runs) == "3 of 21 lost (500, 408); the bad one: 422, 500; +2 MB"


def test_the_table_says_who_never_came_back() -> None:
    runs = [
        {"sent": 100, "lost": 1, "lost_got": {"500": 1}, "answers_after_s": 0.5},
        {"sent": 50, "lost": 50, "lost_got": {"TimeoutError": 50}, "answers_after_s": None},
    ]
    assert fault_cells.kills(runs) == (
        "51 of 150 lost (TimeoutError, 500); answers after 0.5 s; not within 60 s, 1 of 2 times"
    )
