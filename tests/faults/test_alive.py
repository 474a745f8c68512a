"""Kills, stops and hangs, one after another, held against what clients may see of each (`tests/faults/alive.py`)."""

from collections.abc import Iterator

import pytest

from harness.local_service import LocalService
from tests.faults.alive import FAULTS, Fault, launched, struck

pytestmark = pytest.mark.slow


def of(replicas: int) -> pytest.MarkDecorator:
    """The faults of a service of so many replicas."""
    faults = [fault for fault in FAULTS if fault.replicas == replicas]
    return pytest.mark.parametrize("fault", faults, ids=[fault.name for fault in faults])


@pytest.fixture(scope="module")
def single() -> Iterator[LocalService]:
    """One replica; every fault leaves it whole, and afterwards none of its processes is left."""
    with launched(1) as service:
        yield service


@pytest.fixture(scope="module")
def pair() -> Iterator[LocalService]:
    """Two replicas; every fault leaves them whole, and afterwards none of their processes is left."""
    with launched(2) as service:
        yield service


@of(1)
def test_what_one_replica_loses_by_a_fault(single: LocalService, fault: Fault) -> None:
    assert fault.complaints(struck(single, fault)) == []


@of(2)
def test_what_two_replicas_lose_by_a_fault(pair: LocalService, fault: Fault) -> None:
    assert fault.complaints(struck(pair, fault)) == []
