"""Tests of a replica's size on a cluster: the resources that Ray reserves, and the workers on its node."""

from typing import Any

import pytest
from pydantic import ValidationError

from deployments.node import Node
from deployments.service_config import ServiceConfig
from harness.local_service import Document

HEAD = Node(cpus=8)


def fitted(nodes: list[Node], pipeline: Document | None = None, **args: object) -> ServiceConfig:
    return ServiceConfig.model_validate({"pipeline": pipeline or {}, **args}).fitted(nodes)


# ---- on the CPU -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipeline", "nodes", "sizes"),
    [
        ({}, [Node(2)], (1, 2, 2)),
        ({}, [Node(16)], (1, 2, 2)),
        ({}, [Node(1)], (1, 1, 1)),
        ({}, [Node(0.5)], (1, 1, 0.5)),
        ({}, [Node(1), Node(1)], (1, 1, 1)),
        ({}, [Node(1), Node(4)], (1, 2, 2)),
        ({}, [Node(0), Node(16)], (1, 2, 2)),
        ({}, [Node(0)], (1, 2, 2)),
        ({}, [], (1, 2, 2)),
        ({"decode_workers": 3, "concurrent_batches": 4}, [Node(16)], (3, 4, 7)),
        ({"decode_workers": 3, "concurrent_batches": 4}, [Node(4), Node(4)], (3, 4, 4)),
        ({"decode_workers": 3}, [Node(2)], (3, 2, 2)),
        ({"device": "cpu"}, [Node(16, gpus=2)], (1, 2, 2)),
    ],
    ids=str,
)
def test_on_the_cpu_a_replica_is_no_larger_than_a_node(
    pipeline: Document, nodes: list[Node], sizes: tuple[int, int, float]
) -> None:
    """On the CPU a replica's workers, threads and CPUs fit on one node: two nodes of one CPU make no replica of two."""
    config = fitted(nodes, pipeline)
    assert config.pipeline.device == "cpu"
    assert config.is_placed
    assert (config.pipeline.decode_workers, config.pipeline.concurrent_batches, config.num_cpus) == sizes
    assert config.num_gpus == 0


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "num_cpus", "workers"),
    [
        pytest.param([Node(16, gpus=1)], 16, [16], id="one GPU node"),
        pytest.param([HEAD, Node(16, gpus=1)], 16, [16], id="a head without one"),
        pytest.param([HEAD, Node(16, gpus=1), Node(16, gpus=1)], 16, [16, 16], id="two such nodes"),
        pytest.param([Node(32, gpus=4)], 8, [8], id="four GPUs on 32 cores"),
        pytest.param([Node(30, gpus=4)], 7, [7], id="cores that cannot be divided"),
        pytest.param([HEAD, Node(64, gpus=2), Node(8, gpus=1)], 8, [32, 8], id="a rich and a poor one"),
        pytest.param([Node(1, gpus=1)], 1, [1], id="one core"),
        pytest.param([Node(2, gpus=4)], 0.5, [1], id="fewer cores than GPUs"),
        pytest.param([Node(1, gpus=3)], 0.3333, [1], id="a third of a core, rounded down"),
        pytest.param([Node(0, gpus=1)], 0, [1], id="a node whose CPUs nobody may reserve"),
    ],
)
def test_on_a_gpu_a_replica_fits_on_every_node_that_has_one(
    nodes: list[Node], num_cpus: float, workers: list[int]
) -> None:
    """A GPU replica reserves the cores that the smallest GPU node has for it.

    Its workers are those that its own node allows.
    """
    config = fitted(nodes)
    assert config.pipeline.device == "cuda"
    assert (config.num_cpus, config.num_gpus) == (num_cpus, 1)
    gpu_nodes = [node for node in nodes if node.gpus]
    assert [config.placed(node).pipeline.decode_workers for node in gpu_nodes] == workers
    assert {config.placed(node).pipeline.concurrent_batches for node in gpu_nodes} == {1}
    for node in gpu_nodes:  # the replicas on all of its GPUs fit on its cores, in Ray's steps of counting
        assert round(10_000 * (config.num_cpus or 0)) * int(node.gpus) <= 10_000 * node.cpus


@pytest.mark.parametrize(
    ("replicas_per_gpu", "nodes", "num_cpus", "num_gpus", "workers"),
    [
        pytest.param(4, [HEAD, Node(16, gpus=1)], 4, 0.25, [4], id="a quarter of 16 cores"),
        pytest.param(8, [Node(16, gpus=1)], 2, 0.125, [2], id="an eighth"),
        pytest.param(3, [Node(16, gpus=1)], 5, 0.3333, [5], id="a third, rounded down"),
        pytest.param(7, [Node(24, gpus=1)], 3, 0.1428, [3], id="a seventh, rounded down"),
        pytest.param(2, [Node(32, gpus=4)], 4, 0.5, [4], id="four GPUs on 32 cores"),
        pytest.param(2, [Node(4, gpus=4)], 0.5, 0.5, [1], id="fewer cores than replicas"),
        pytest.param(3, [Node(2, gpus=1)], 0.6666, 0.3333, [1], id="two thirds of a core, rounded down"),
        pytest.param(4, [Node(64, gpus=1), Node(8, gpus=2)], 1, 0.25, [16, 1], id="a rich and a poor one"),
        pytest.param(2, [HEAD, Node(4, gpus=0.5)], 4, 0.5, [4], id="half of a GPU is all that Ray may give"),
    ],
)
def test_replicas_that_share_a_gpu_share_its_cores(
    replicas_per_gpu: int, nodes: list[Node], num_cpus: float, num_gpus: float, workers: list[int]
) -> None:
    """Replicas that share a GPU share its cores, and all of them fit on every node that has a GPU."""
    config = fitted(nodes, replicas_per_gpu=replicas_per_gpu)
    assert (config.num_cpus, config.num_gpus) == (num_cpus, num_gpus)
    gpu_nodes = [node for node in nodes if node.gpus]
    assert [config.placed(node).pipeline.decode_workers for node in gpu_nodes] == workers
    for node in gpu_nodes:
        replicas = int(node.gpus * replicas_per_gpu)
        assert round(10_000 * (config.num_cpus or 0)) * replicas <= 10_000 * node.cpus


@pytest.mark.parametrize(
    ("gpu_share", "node", "num_cpus", "workers"),
    [
        (0.7, Node(10, gpus=1), 7, 7),
        (0.3, Node(10, gpus=1), 3, 3),
        (0.25, Node(32, gpus=4), 2, 2),
        (0.5, Node(1, gpus=1), 0.5, 1),
        (1.0, Node(16, gpus=1), 16, 16),
    ],
)
def test_a_replica_has_its_share_of_a_gpu_and_its_cores(
    gpu_share: float, node: Node, num_cpus: float, workers: int
) -> None:
    """Replicas of several applications share a GPU in any parts, and each has the same part of the node's cores."""
    config = fitted([HEAD, node], gpu_share=gpu_share)
    assert (config.num_cpus, config.num_gpus) == (num_cpus, gpu_share)
    assert config.placed(node).pipeline.decode_workers == workers
    assert fitted([HEAD], gpu_share=gpu_share).num_gpus == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"gpu_share": 0}, r"(?m)^gpu_share\n"),
        ({"gpu_share": 1.5}, r"(?m)^gpu_share\n"),
        ({"gpu_share": 0.5, "pipeline": {"device": "cpu"}}, "cannot be reserved with device: cpu; remove gpu_share"),
        ({"gpu_share": 0.5, "replicas_per_gpu": 2}, "both set the part of a GPU that a replica reserves; keep one"),
    ],
)
def test_a_share_of_a_gpu_that_cannot_be_is_refused(args: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ServiceConfig.model_validate(args)


@pytest.mark.parametrize("replicas_per_gpu", range(1, 65))
def test_a_gpu_holds_as_many_replicas_as_are_written(replicas_per_gpu: int) -> None:
    """In the steps in which Ray counts, exactly `replicas_per_gpu` replicas fit on a GPU."""
    config = fitted([Node(16, gpus=1)], replicas_per_gpu=replicas_per_gpu)
    steps = int(10_000 * config.num_gpus)  # Ray also rounds down to a step
    assert replicas_per_gpu * steps <= 10_000 < (replicas_per_gpu + 1) * steps


@pytest.mark.parametrize("replicas_per_gpu", [1, 4])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_replicas_may_share_a_gpu_that_may_be_there(device: str, replicas_per_gpu: int) -> None:
    """With `auto` on a cluster without a GPU, no share of a GPU is requested."""
    config = fitted([HEAD], {"device": device}, replicas_per_gpu=replicas_per_gpu)
    assert config.num_gpus == (0 if device == "auto" else 1 / replicas_per_gpu)


def test_replicas_cannot_share_a_gpu_on_the_cpu() -> None:
    message = (
        "replicas_per_gpu: 2 replicas cannot share a GPU with device: cpu; write replicas_per_gpu: 1, or device: cuda"
    )
    with pytest.raises(ValidationError, match=message):
        ServiceConfig.model_validate({"pipeline": {"device": "cpu"}, "replicas_per_gpu": 2})
    assert ServiceConfig.model_validate({"pipeline": {"device": "cpu"}, "replicas_per_gpu": 1})


@pytest.mark.parametrize("replicas_per_gpu", [0, 65, 1.5])
def test_replicas_of_a_gpu_are_counted(replicas_per_gpu: float) -> None:
    with pytest.raises(ValidationError, match=r"(?m)^replicas_per_gpu\n"):
        ServiceConfig.model_validate({"replicas_per_gpu": replicas_per_gpu})


@pytest.mark.parametrize("nodes", [[], [HEAD], [HEAD, Node(16)]], ids=str)
def test_a_replica_that_waits_for_a_gpu_takes_its_workers_from_the_node_that_comes(nodes: list[Node]) -> None:
    """A replica that waits for a GPU reserves one core, shared by all replicas of that GPU.

    Its workers follow from the node that comes.
    """
    config = fitted(nodes, {"device": "cuda"})
    assert (config.num_cpus, config.num_gpus, config.is_placed) == (1, 1, False)
    assert config.placed(Node(16, gpus=1)).pipeline.decode_workers == 16
    assert config.placed(Node(32, gpus=4)).pipeline.decode_workers == 8
    assert config.placed(Node(32, gpus=4)).is_placed
    shared = fitted(nodes, {"device": "cuda"}, replicas_per_gpu=4)
    assert (shared.num_cpus, shared.num_gpus) == (0.25, 0.25)
    assert shared.placed(Node(16, gpus=1)).pipeline.decode_workers == 4


@pytest.mark.parametrize(
    ("written", "num_cpus", "workers"),
    [
        ({"pipeline": {"decode_workers": 3}}, 4, 3),
        ({"pipeline": {"decode_workers": 3, "concurrent_batches": 2}}, 5, 3),
        ({"pipeline": {"decode_workers": 40}}, 16, 40),
        ({"num_cpus": 2}, 2, 16),
        ({"num_cpus": 0}, 0, 16),
    ],
    ids=str,
)
def test_what_is_written_stays(written: Document, num_cpus: float, workers: int) -> None:
    """Written sizes are kept. No more cores are reserved than belong to the GPU, as other GPUs would stay unused."""
    config = ServiceConfig.model_validate(written).fitted([HEAD, Node(32, gpus=2)])
    assert config.num_cpus == num_cpus
    assert config.placed(Node(32, gpus=2)).pipeline.decode_workers == workers


@pytest.mark.parametrize(
    ("device", "nodes", "said"),
    [
        (
            "auto",
            [HEAD],
            "device: auto found no GPU on any node of the cluster (1 alive), so the model runs on the CPU",
        ),
        ("auto", [HEAD, Node(4), Node(4, gpus=0.5)], "found no GPU on any node of the cluster (3 alive)"),
        ("cuda", [HEAD], "replicas wait for a node with one; each reserves num_cpus: 1 and num_gpus: 1 of it"),
        ("cpu", [HEAD], None),
        ("auto", [HEAD, Node(4, gpus=1)], None),
        ("cuda", [HEAD, Node(4, gpus=1)], None),
    ],
    ids=str,
)
def test_a_cluster_without_a_gpu_is_pointed_out(device: str, nodes: list[Node], said: str | None) -> None:
    """A cluster without a GPU causes a warning, unless the configuration asks for the CPU."""
    warnings = fitted(nodes, {"device": device}).warnings(nodes, asked=device)
    assert [said in warning for warning in warnings if said] == ([True] if said else [])
    assert len(warnings) == (said is not None)


# ---- room -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "fits"),
    [
        ([Node(16, gpus=1)], True),
        ([HEAD, Node(16, gpus=1)], True),
        ([Node(15, gpus=1)], False),
        ([Node(16)], False),
        ([Node(0, gpus=1)], False),
        ([Node(16), Node(0, gpus=1)], False),
        ([Node(8, gpus=0.5), Node(8, gpus=0.5)], False),
        ([], False),
    ],
    ids=str,
)
def test_a_replica_fits_where_one_node_has_all_that_it_reserves(free: list[Node], fits: bool) -> None:
    """A replica fits only if one node has all its resources: CPUs and a GPU on different nodes do not count."""
    assert fitted([HEAD, Node(16, gpus=1)]).fits(free) is fits


@pytest.mark.parametrize(
    ("free", "fits"),
    [
        ([Node(4, gpus=0.25)], True),
        ([HEAD, Node(13, gpus=0.75)], True),
        ([Node(3, gpus=0.25)], False),
        ([Node(4, gpus=0.2499)], False),
        ([HEAD, Node(0, gpus=1)], False),
    ],
    ids=str,
)
def test_a_share_of_a_gpu_fits_where_as_much_is_free(free: list[Node], fits: bool) -> None:
    assert fitted([HEAD, Node(16, gpus=1)], replicas_per_gpu=4).fits(free) is fits


@pytest.mark.parametrize(
    ("nodes", "free", "made"),
    [
        ([HEAD, Node(16, gpus=2)], [HEAD, Node(8, gpus=1)], False),
        ([HEAD, Node(16, gpus=2)], [HEAD, Node(0)], True),
        ([HEAD, Node(16, gpus=2)], [HEAD, Node(8)], True),
        ([HEAD], [HEAD], False),
        ([HEAD], [Node(0)], False),
    ],
    ids=str,
)
def test_room_is_made_only_where_that_helps(nodes: list[Node], free: list[Node], made: bool) -> None:
    """Replicas are removed to free resources only if that helps: without a GPU node those on the CPU keep serving."""
    assert fitted(nodes, {"device": "cuda"}).needs_room_made(nodes, free) is made


@pytest.mark.parametrize(("free", "fits"), [([Node(2)], True), ([Node(1), Node(1)], False), ([], False)], ids=str)
def test_on_the_cpu_cores_of_two_nodes_are_no_room(free: list[Node], fits: bool) -> None:
    assert fitted([Node(16)]).fits(free) is fits
