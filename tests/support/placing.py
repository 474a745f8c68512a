"""Deploys replicas on a cluster of several nodes with pretended GPUs, and prints where they are placed.

This is a program of its own, because Ray leaves sockets open in the process that starts a cluster. The nodes are real
Ray nodes on this machine. Ray believes `num_gpus`, so placement and sizes are real, but no model runs on CUDA.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster

from deployments import cluster as cluster_nodes
from deployments.app import sized
from deployments.replica import Replica
from deployments.service_config import ServiceConfig
from pipeline.config import PipelineConfig
from pipeline.live_limits import Limits
from tests.support.fake_engine import HEAD, IDLE
from tests.support.waiting import until


class _NoEngine:
    """Stands in for the engine, and infers nothing."""

    stats = IDLE

    def __init__(self, config: PipelineConfig) -> None:
        self.device_kind, self.limits, self.head = config.device, Limits(), HEAD

    def start(self) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Report no failure."""

    def close(self) -> None:
        """Do nothing."""

    def expected_wait_s(self) -> float:
        """Return that nothing waits."""
        return 0.0


@dataclass(frozen=True)
class Landed:
    """Node and resources of a replica."""

    node_id: str
    device: str
    decode_workers: int
    num_cpus: float  # reserved by Ray
    num_gpus: float  # reserved by Ray, too
    gpus: str | None  # visible GPUs, as Ray sets them
    warnings: tuple[str, ...]


class _PlacedReplica(Replica):
    """The whole replica, except for its engine."""

    def _engine_of(self, config: PipelineConfig) -> Any:
        return _NoEngine(config)

    async def landed(self) -> Landed:
        """Return the replica's node and resources."""
        context, pipeline = ray.get_runtime_context(), self._config.pipeline
        reserved = context.get_assigned_resources()  # type: ignore[no-untyped-call]
        return Landed(
            node_id=context.get_node_id(),
            device=pipeline.device,
            decode_workers=pipeline.decode_workers or 0,
            num_cpus=reserved.get("CPU", 0.0),
            num_gpus=reserved.get("GPU", 0.0),
            gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
            warnings=tuple(self._warnings),
        )


def deploy(name: str, **args: Any) -> None:
    """Deploy an application of one replica by the project's own builder, without waiting for it."""
    application = sized(ServiceConfig.model_validate(args), _PlacedReplica)
    serve.run_many(
        [serve.RunTarget(application, name=name, route_prefix=f"/{name}")], wait_for_applications_running=False
    )


def is_running(name: str) -> bool:
    """Return whether the replica of an application has started."""
    return serve.status().applications[name].status.value == "RUNNING"


def landed(name: str) -> dict[str, Any]:
    """Return node and resources of an application's replica, once it runs."""
    until(lambda: is_running(name))
    found: Landed = serve.get_app_handle(name).landed.remote().result()
    return asdict(found)


def scenario(cluster: Cluster) -> dict[str, Any]:
    """Return the placement before and after a GPU node joins a head node of 4 CPUs without a GPU."""
    deploy("auto-before", pipeline={"device": "auto"}, num_cpus=1)
    deploy("waiting", pipeline={"device": "cuda"}, replicas_per_gpu=2)
    before, waits = landed("auto-before"), not is_running("waiting")
    node = cluster.add_node(num_cpus=16, num_gpus=1)
    waited, another = landed("waiting"), ServiceConfig(replicas_per_gpu=2).fitted(cluster_nodes.nodes())
    until(lambda: another.fits(cluster_nodes.free_on_nodes()))  # half of the GPU is left
    deploy("auto-after", pipeline={"device": "auto"}, replicas_per_gpu=2)
    after = landed("auto-after")
    until(lambda: not another.fits(cluster_nodes.free_on_nodes()))  # CPUs are left, but no GPU
    nodes = sorted((node.cpus, node.gpus) for node in cluster_nodes.nodes())
    return {"node": node.node_id, "nodes": nodes, "before": before, "waits": waits, "waited": waited, "after": after}


def main() -> None:
    """Print the findings as one line of JSON."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    try:
        ray.init(address=cluster.address, namespace="serve", log_to_driver=False)
        serve.start(proxy_location="Disabled")
        seen = scenario(cluster)
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
