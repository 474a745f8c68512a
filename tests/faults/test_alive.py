"""Tests of kills, stops and hangs one after another, against the bounds for each (`tests/faults/alive.py`)."""

from collections.abc import Iterator

import pytest

from harness.local_service import LocalService
from tests.faults.alive import FAULTS, Fault, launched, struck

pytestmark = pytest.mark.slow


def of(replicas: int) -> pytest.MarkDecorator:
    """Return the faults of a service of this many replicas."""
    faults = [fault for fault in FAULTS if fault.replicas == replicas]
    return pytest.mark.parametrize("fault", faults, ids=[fault.name for fault in faults])


@pytest.fixture(scope="module")
def single() -> Iterator[LocalService]:
    """One replica. Every fault leaves it complete, and afterwards none of its processes is left."""
    with launched(1) as service:
        yield service


@pytest.fixture(scope="module")
def pair() -> Iterator[LocalService]:
    """Two replicas. Every fault leaves them complete, and afterwards none of their processes is left."""
    with launched(2) as service:
        yield service


@of(1)
def test_what_one_replica_loses_by_a_fault(single: LocalService, fault: Fault) -> None:
    assert fault.complaints(struck(single, fault)) == []


@of(2)
def test_what_two_replicas_lose_by_a_fault(pair: LocalService, fault: Fault) -> None:
    assert fault.complaints(struck(pair, fault)) == []
