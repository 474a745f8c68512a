"""Tests of the recorded circumstances of a measurement."""

from harness.circumstances import circumstances


def test_a_page_shows_no_path_of_the_machine_that_it_was_made_on() -> None:
    about = circumstances("benchmarks.gpu", ["--out", "/home/somebody/out", "--only", "facts"])
    assert about["command"] == "python -m benchmarks.gpu --out out --only facts"
