"""Tests of the check that the least replicas of all applications can be placed on the nodes of a cluster."""

from collections.abc import Sequence
from typing import Any

import pytest

from deployments.checks.cluster_placement import placements
from deployments.node import Node
from harness.local_service import Document, shipped_config

SMALL, LARGE, WITH_GPU, EIGHT_GPUS = Node(2.0), Node(16.0), Node(16.0, gpus=1.0), Node(64.0, gpus=8.0)


def _application(name: str, args: Document, **scaling: int) -> Document:
    deployments = [{"name": "Model", "autoscaling_config": scaling}]
    return {"name": name, "import_path": "deployments.app:build_app", "args": args, "deployments": deployments}


def _faults(nodes: Sequence[Node], *applications: Document) -> list[str]:
    found = placements({"applications": [*applications]}, nodes)
    return [placement.fault for placement in found if placement.fault]


@pytest.mark.parametrize(
    ("args", "scaling", "nodes", "used"),
    [
        ({}, {}, [SMALL], [0]),
        ({}, {"min_replicas": 3}, [SMALL, SMALL, SMALL], [0, 1, 2]),
        ({}, {"min_replicas": 3}, [SMALL, LARGE], [1, 1, 1]),
        ({}, {"min_replicas": 0}, [SMALL], [0]),  # the one that the first request starts
        ({"num_cpus": 1}, {"min_replicas": 2}, [Node(1.5), Node(1.5)], [0, 1]),
        ({"num_cpus": 2}, {"min_replicas": 2}, [Node(3.0), Node(1.0)], [0]),  # half of one on each of two is none
        ({"num_cpus": 4}, {}, [SMALL, SMALL], []),
        ({"pipeline": {"device": "cuda"}}, {"min_replicas": 2}, [SMALL, WITH_GPU], [1]),
        ({"pipeline": {"device": "cuda"}, "replicas_per_gpu": 8}, {"min_replicas": 8}, [LARGE, WITH_GPU], [1] * 8),
        ({"pipeline": {"device": "cuda"}}, {}, [LARGE], []),
        ({"pipeline": {"device": "auto"}}, {}, [LARGE], [0]),
        ({"num_cpus": 0.6}, {"min_replicas": 5}, [Node(3.0)], [0] * 5),  # without rounding errors
        ({"num_cpus": 0.1}, {"min_replicas": 20}, [Node(2.0)], [0] * 20),
        (
            {"pipeline": {"device": "cuda"}, "replicas_per_gpu": 20, "num_cpus": 0},
            {"min_replicas": 20},
            [WITH_GPU],
            [0] * 20,
        ),
        ({"pipeline": {"device": "cuda"}, "gpu_share": 0.7, "num_cpus": 1}, {"min_replicas": 9}, [EIGHT_GPUS], [0] * 8),
    ],
)
def test_each_replica_needs_one_node_with_room(
    args: Document, scaling: dict[str, Any], nodes: list[Node], used: list[int]
) -> None:
    """A replica needs all of its resources on one node, and its share of a GPU on one GPU."""
    (placement,) = placements({"applications": [_application("darkroom", args, **scaling)]}, nodes)
    assert placement.nodes == used
    assert (placement.fault is None) == (len(used) == placement.minimum)


def test_what_has_no_room_is_told_with_what_to_write() -> None:
    """The message has the application, how many replicas fit, what each needs, and remedies."""
    gpu = {"pipeline": {"device": "cuda"}, "replicas_per_gpu": 2}
    assert _faults([LARGE], _application("birds", gpu)) == [
        "application birds: no replica has room: each reserves num_cpus: 0.5 and num_gpus: 0.5 of one node; add a node "
        "of this size, or write device: cpu under args.pipeline, without replicas_per_gpu and gpu_share"
    ]
    assert _faults([LARGE], _application("birds", {"num_cpus": 10}, min_replicas=2)) == [
        "application birds: only 1 of 2 replicas have room: each reserves num_cpus: 10 of one node; add nodes, or "
        "write a smaller num_cpus under args, or a smaller min_replicas"
    ]


def test_applications_share_the_nodes() -> None:
    """An application gets only the room that those before it leave."""
    one, two = (_application(name, {"num_cpus": 9}) for name in ("one", "two"))
    assert [fault.partition(":")[0] for fault in _faults([LARGE], one, two)] == ["application two"]
    assert _faults([LARGE, LARGE], one, two) == []


def test_replicas_without_a_gpu_leave_the_nodes_with_one_to_others() -> None:
    """An application on the CPU takes nodes without a GPU first, so that one with a GPU keeps the cores beside it."""
    on_cpu = _application("cpu", {"num_cpus": 10, "pipeline": {"device": "cpu"}})
    on_gpu = _application("gpu", {"num_cpus": 10, "pipeline": {"device": "cuda"}})
    assert _faults([WITH_GPU, LARGE], on_cpu, on_gpu) == []


@pytest.mark.parametrize(
    ("name", "node"),
    [("serve_config.yaml", SMALL), ("serve_config.multi.yaml", SMALL), ("serve_config.gpu.yaml", WITH_GPU)],
)
def test_the_shipped_files_fit_on_the_nodes_that_they_are_written_for(name: str, node: Node) -> None:
    """Each shipped file fits on one node like that in its comments."""
    assert not any(each.fault for each in placements(shipped_config(name), [node]))
