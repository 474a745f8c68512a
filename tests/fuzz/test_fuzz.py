"""Tests of the fuzzer: it makes the same files again, and counts the outcome of each."""

import os
import tempfile

import pytest

from tests.fuzz.case import case
from tests.fuzz.child import CLASSES, SharedTally, run
from tests.fuzz.seed_files import FAMILIES, seeds
from tests.fuzz.shrink import shrunk

SEEDS = seeds()


def test_a_case_is_told_by_seed_and_number() -> None:
    cases = [case(number, 1, SEEDS) for number in range(300)]
    assert cases == [case(number, 1, SEEDS) for number in range(300)]
    assert {one.seed.family for one in cases} == set(FAMILIES)
    assert len({one.data for one in cases}) > 290
    assert case(7, 2, SEEDS) != cases[7]


def test_every_execution_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every execution is counted: each seed is decoded as it is and mutated, and only an ImageError is raised."""
    monkeypatch.setattr("tests.fuzz.child.MemoryLimit.fit", lambda _self, _pixels: None)  # only for a child
    tally = SharedTally()
    with tempfile.TemporaryFile() as findings:
        run(tally, findings.fileno(), 5, SEEDS, range(400))
        os.lseek(findings.fileno(), 0, os.SEEK_SET)
        assert b"other error" not in findings.read()
    assert tally.now[0] == 399
    assert tally.counts.sum() == 500  # every fourth case runs in both modes
    assert tally.counts[:, CLASSES.index("answered")].sum() > 60


def test_a_file_is_made_smaller_as_long_as_it_has_its_effect() -> None:
    assert shrunk(bytes(300) + b"needle" + bytes(500), lambda data: b"needle" in data) == b"needle"
