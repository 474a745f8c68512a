"""Tests of the faults of a cluster, one after another, against the bounds for each (`cluster_faults.py`)."""

import shutil
from collections.abc import Iterator

import pytest

from harness.machines import unsupported_reason
from tests.faults.cluster_faults import FAULTS, ClusterFault, struck
from tests.faults.cluster_scene import Scene, scene_with

pytestmark = [pytest.mark.slow, pytest.mark.skipif(unsupported_reason() is not None, reason=f"{unsupported_reason()}")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two replicas on two nodes, and a third node. Every fault leaves two replicas."""
    with scene_with(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_losses_stay_within_the_bounds_of_each_fault(scene: Scene, fault: ClusterFault) -> None:
    """Clients lose no more than a fault's bound, get no wrong answer, and are served again in time."""
    if fault.needs and not shutil.which(fault.needs):
        pytest.skip(f"needs {fault.needs}")
    outage, _ = struck(scene, fault)
    assert fault.complaints(outage) == []
