"""Tests of the placement and the size of replicas on a cluster of several nodes."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import ray

from deployments import cluster
from deployments.node import Node
from harness.local_service import Document
from harness.repository import ROOT
from tests.support.running_service import AS_LAUNCHED, marked


def _entry(node_id: str, *, alive: bool = True, **resources: float) -> Document:
    return {"NodeID": node_id, "Alive": alive, "Resources": resources}


def test_only_nodes_that_are_alive_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only nodes that are alive count. Resources in full use are missing among those that Ray lists as free."""
    entries = [_entry("a", CPU=8.0), _entry("b", CPU=16.0, GPU=1.0), _entry("c", alive=False, CPU=4.0, GPU=4.0)]
    monkeypatch.setattr(ray, "nodes", lambda: entries)
    monkeypatch.setattr(cluster, "available_resources_per_node", lambda: {"b": {"CPU": 2.0}, "c": {"GPU": 4.0}})
    assert cluster.nodes() == [Node(8.0), Node(16.0, gpus=1.0)]
    assert cluster.free_on_nodes() == [Node(0.0), Node(2.0)]


def test_a_node_that_ray_does_not_list_sizes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica fails if Ray does not list its node, as it could only guess its workers. Serve starts it again."""
    monkeypatch.setattr(ray, "nodes", lambda: [_entry("a", CPU=8.0), _entry("own", alive=False, CPU=4.0)])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "own"))
    with pytest.raises(RuntimeError, match="Ray does not list its own node own as alive; start it again"):
        cluster.own_node()


@pytest.fixture(scope="module")
def seen() -> Document:
    """Return the findings of `tests/support/placing.py`; none of its processes is left running."""
    mark = f"placing-{os.getpid()}"
    environment = {**os.environ, "SPT_NOENV": AS_LAUNCHED["SPT_NOENV"], "DARKROOM_TEST": mark}
    command = [sys.executable, "-m", "tests.support.placing"]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    finally:
        left = marked(mark)
        for process in left:
            process.kill()
    assert not left
    document: Document = json.loads(done.stdout.splitlines()[-1])
    return document


@pytest.mark.slow
def test_auto_takes_the_cpu_where_no_node_has_a_gpu_and_says_so(seen: Document) -> None:
    before = seen["before"]
    assert (before["device"], before["decode_workers"], before["num_cpus"], before["num_gpus"]) == ("cpu", 1, 1, 0)
    assert "device: auto found no GPU on any node of the cluster (1 alive)" in before["warnings"][0]


@pytest.mark.slow
def test_cuda_waits_for_a_node_with_a_gpu_and_is_sized_by_it(seen: Document) -> None:
    """A replica for CUDA waits for a GPU node with half a CPU reserved.

    Then it gets workers for its half of that node's 16 cores.
    """
    waited = seen["waited"]
    assert seen["waits"]
    assert waited["node_id"] == seen["node"]
    assert (waited["device"], waited["decode_workers"], waited["num_cpus"], waited["num_gpus"]) == ("cuda", 8, 0.5, 0.5)
    assert "device: cuda found no GPU on any node of the cluster (1 alive)" in waited["warnings"][0]


@pytest.mark.slow
def test_replicas_share_a_gpu_and_its_cores(seen: Document) -> None:
    """A second replica shares the GPU and its cores, which `auto` finds.

    The cores of the head node count for neither.
    """
    after = seen["after"]
    assert seen["nodes"] == [[4, 0], [16, 1]]
    assert after["node_id"] == seen["node"]
    assert (after["device"], after["decode_workers"], after["num_cpus"], after["num_gpus"]) == ("cuda", 8, 8, 0.5)
    assert after["gpus"] == seen["waited"]["gpus"] == "0"
    assert after["warnings"] == []
