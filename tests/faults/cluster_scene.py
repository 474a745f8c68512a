"""A cluster of imitated machines with a service of two replicas, on which faults are caused."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from harness.local_service import Document, shipped_config
from harness.ray_cluster import ClusterFailed, RayCluster

REDIS_PORT: Final = 6390
SETTLE_S: Final = 5.0
_LOOKS_EVERY_S: Final = 0.5


class Scene:
    """A cluster of three nodes with room for one replica each, and a service of two replicas.

    Attributes:
        cluster: the cluster.
        document: the service's configuration.
        near: name of the node that clients ask; it has one of the replicas.
        far: name of the node with the other one.
    """

    def __init__(self, cluster: RayCluster) -> None:
        self.cluster, self.document = cluster, service_config()
        self.near, self.far = "", ""

    def deploy(self, **pipeline: Any) -> None:
        """Deploy the service, or its change."""
        self.document["applications"][0]["args"]["pipeline"].update(pipeline)
        self.cluster.deploy(self.document)

    def settle(self) -> None:
        """Wait until two replicas run and answer, and note where they are.

        Raises:
            ClusterFailed: they do not in time, or are on the same node.
        """
        self.cluster.wait_for_replicas(2)
        on = self._nodes_with_replicas()
        if len(on) != 2:
            raise ClusterFailed(f"the replicas are on {on}, not on two nodes")
        self.near, self.far = on
        self.cluster.wait_until_it_answers(self.cluster.nodes[self.near])
        time.sleep(SETTLE_S)

    @property
    def far_has_a_replica(self) -> bool:
        """True if a replica is still, or again, on the far node."""
        return self.far in self._nodes_with_replicas()

    def _nodes_with_replicas(self) -> list[str]:
        names = {machine.address: name for name, machine in self.cluster.nodes.items()}
        return sorted({names.get(replica["node_ip"], replica["node_ip"]) for replica in self.cluster.running()})

    def replace(self, name: str) -> None:
        """Start another machine in the place of one, which is switched off if it is not yet."""
        self.cluster.nodes[name].switch_off()
        self.cluster.add(name, cpus=1)


def service_config() -> Document:
    """Return the shipped configuration with two replicas, each on a node of its own, open to other machines."""
    document = shipped_config()
    document["http_options"]["host"] = "0.0.0.0"  # noqa: S104  of imitated machines
    (application,) = document["applications"]
    application["args"]["num_cpus"] = 1
    (deployment,) = application["deployments"]
    deployment["autoscaling_config"].update(min_replicas=2, max_replicas=2)
    return document


@contextmanager
def scene_with(logs: Path) -> Iterator[Scene]:
    """Run the cluster with its service; afterwards all machines are off.

    With Redis the head keeps its state there, so that it can be started again.
    """
    with RayCluster(logs, redis_port=REDIS_PORT if shutil.which("redis-server") else None) as cluster:
        for name in ("one", "two", "three"):
            cluster.add(name, cpus=1)
        scene = Scene(cluster)
        scene.deploy()
        yield scene


class ReplicaWatch:
    """Looks at the replicas all the time, from the strike on."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster, self._stop = cluster, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._struck_at_s, self._incomplete_at_s = 0.0, 0.0

    def struck(self) -> None:
        """Begin, at the moment of the strike."""
        self._struck_at_s = self._incomplete_at_s = time.monotonic()
        self._thread.start()

    def recovered_after_s(self) -> float:
        """End, once two replicas run; return the seconds from the strike until they did for good."""
        self._cluster.wait_for_replicas(2)
        self._stop.set()
        self._thread.join()
        return self._incomplete_at_s - self._struck_at_s

    def _look(self) -> None:
        while not self._stop.wait(_LOOKS_EVERY_S):
            if not self._cluster.head.is_running:
                return
            if [replica["state"] for replica in self._cluster.replicas()] != ["RUNNING"] * 2:
                self._incomplete_at_s = time.monotonic()
