"""Faults of a cluster of several machines, one after another, under load: what clients lose, and for how long.

The machines are imitated (`harness/machines.py`), Ray and the service are real. Clients send requests at a constant
rate, each on a connection of its own, to the balancer of one node. Writes `benchmarks/results/cluster.md` and `.json`.
`make cluster` runs it.
"""

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write
from harness.local_service import Document, shipped_config
from harness.ray_cluster import GCS_PORT, ClusterFailed, RayCluster
from tests.faults.outage import SLOW_S, Outage, measure

RATE: Final = 8.0
"""Requests a second: less than one replica answers on a core that it shares with the whole cluster."""

REDIS_PORT: Final = 6390
SETTLE_S: Final = 5.0
_LOOKS_EVERY_S: Final = 0.5

HEADER: Final = (
    *("fault", "sent", "lost", "wrong", f"slower than {SLOW_S} s", "slowest s", "clients recovered after, s"),
    "two replicas again after, s",
)


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


Strike = Callable[[Scene], object]


@dataclass(frozen=True, slots=True)
class ClusterFault:
    """A fault of a cluster, and the most that clients may notice.

    Args:
        name: name in the table.
        strike: causes the fault.
        for_s: time for which clients send requests.
        lost: requests without a prediction.
        recovers_within_s: time until no request is lost or slow any more.
        restore: makes the cluster whole afterwards.
        needs: program without which the fault cannot be caused.
    """

    name: str
    strike: Strike
    for_s: float
    lost: int
    recovers_within_s: float
    restore: Strike = field(default=lambda _: None)
    needs: str = ""

    def complaints(self, outage: Outage) -> list[str]:
        """Return the measured values beyond these bounds, in words."""
        found = []
        if outage.wrong:
            found.append(f"{outage.wrong} wrong")
        if (lost := outage.lost.total()) > self.lost:
            found.append(f"{lost} lost ({dict(outage.lost)}), at most {self.lost}")
        if outage.whole_after_s > self.recovers_within_s:
            found.append(f"recovered after {outage.whole_after_s:.1f} s, at most {self.recovers_within_s:g} s")
        return found


# ---- strikes --------------------------------------------------------------------------------------------------------


def switch_off(scene: Scene) -> None:
    """End all processes of the far machine at once."""
    scene.cluster.nodes[scene.far].switch_off()


def cut_off(for_s: float) -> Strike:
    """Make a strike that takes the far machine off the network, and brings it back."""

    def strike(scene: Scene) -> None:
        scene.cluster.nodes[scene.far].disconnect()
        time.sleep(for_s)
        scene.cluster.nodes[scene.far].connect()

    return strike


def drain(deadline_s: int) -> Strike:
    """Make a strike that announces the end of the far node, as a cloud does for a spot instance."""

    def strike(scene: Scene) -> None:
        node = scene.cluster.alive()[scene.cluster.nodes[scene.far].address]
        scene.cluster.ray(
            "drain-node",
            f"--address={scene.cluster.head.address}:{GCS_PORT}",
            f"--node-id={node}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION",
            "--reason-message=the spot instance is reclaimed",
            f"--deadline-remaining-seconds={deadline_s}",
        )

    return strike


def kill_haproxy(*, near: bool) -> Strike:
    """Make a strike that kills HAProxy on the near or the far machine."""

    def strike(scene: Scene) -> None:
        processes = scene.cluster.nodes[scene.near if near else scene.far].processes()
        balancers = [process for process in processes if process.name() == "haproxy"]
        if not balancers:
            raise ClusterFailed("there is no HAProxy to kill")
        for process in balancers:
            process.kill()

    return strike


def restore_far(scene: Scene) -> None:
    """Start another machine in the place of the far one, unless that is a node still, as after a short cut."""
    if scene.cluster.nodes[scene.far].address not in scene.cluster.alive() or not scene.far_has_a_replica:
        scene.replace(scene.far)


def restart_head(scene: Scene, away_s: float = 5.0) -> None:
    """Kill Ray's head, and start it again a few seconds later."""
    scene.cluster.stop_head()
    time.sleep(away_s)
    scene.cluster.start_head()


def update_args(scene: Scene) -> None:
    """Change a setting of `args`, which replaces the replicas one by one."""
    now = scene.document["applications"][0]["args"]["pipeline"]["max_top_k"]
    scene.deploy(max_top_k=11 if now == 10 else 10)


def update_live(scene: Scene) -> None:
    """Change a setting of `user_config`, which replaces no replica."""
    (deployment,) = scene.document["applications"][0]["deployments"]
    deployment["user_config"]["max_queue_wait_s"] += 1
    scene.deploy()


def update_code(scene: Scene) -> None:
    """Deploy another version of the code: another function that builds the same service."""
    application = scene.document["applications"][0]
    other = {"deployments.app:build_app": "tests.faults.hanging:build_app"}
    application["import_path"] = other.get(application["import_path"], "deployments.app:build_app")
    scene.deploy()


def _fault(name: str, strike: Strike, for_s: float, *, lost: int = 0, within_s: float = 0, **more: Any) -> ClusterFault:
    return ClusterFault(name, strike, for_s, lost, within_s, **more)


FAULTS: Final = (
    _fault("live settings changed", update_live, 10),
    _fault("settings of args changed: rolling update", update_args, 60, within_s=60),
    _fault("code changed: rolling update", update_code, 60, within_s=60),
    _fault("HAProxy of another node killed", kill_haproxy(near=False), 10),
    _fault("HAProxy of the clients' node killed", kill_haproxy(near=True), 20, lost=100, within_s=12),
    _fault("head killed, and started again after 5 s (Redis)", restart_head, 60, needs="redis-server"),
    _fault("node drained, 60 s before its end", drain(60), 60, within_s=30, restore=restore_far),
    _fault("node switched off", switch_off, 50, lost=10, within_s=45, restore=restore_far),
    _fault("node off the network for 10 s", cut_off(10), 50, lost=30, within_s=45, restore=restore_far),
    _fault("node off the network for 60 s", cut_off(60), 100, lost=30, within_s=45, restore=restore_far),
)


# ---- the scene ------------------------------------------------------------------------------------------------------


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


class _ReplicaWatch:
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


def struck(scene: Scene, fault: ClusterFault) -> tuple[Outage, float]:
    """Cause a fault in a whole scene.

    Returns:
        Losses of clients, and the seconds until two replicas ran again; 0 if they did all the time.
    """
    scene.settle()
    watch = _ReplicaWatch(scene.cluster)

    def strike() -> None:
        watch.struck()
        fault.strike(scene)

    with scene.cluster.clients.network():
        outage = measure(scene.cluster.target(scene.cluster.nodes[scene.near]), strike, fault.for_s, RATE)
    recovered_after_s = watch.recovered_after_s()
    fault.restore(scene)
    return outage, recovered_after_s


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in record["lost"].items())
    return [
        record["fault"],
        str(record["sent"]),
        f"{sum(record['lost'].values())} ({kinds})" if kinds else "0",
        str(record["wrong"]),
        str(record["slow"]),
        f"{record['slowest_s']:.2f}",
        f"{record['clients_recovered_s']:.1f}",
        f"{record['replicas_recovered_s']:.1f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status, 0 if nothing is beyond its bounds."""
    parser = parser_of("tests.faults.cluster_faults", __doc__)
    parser.add_argument("--only", action="append", default=[], help="a fault, by its name; may be given again")
    options = parser.parse_args(arguments)
    about, rows, records = circumstances("tests.faults.cluster_faults", arguments), list[list[str]](), list[Facts]()
    complaints = list[str]()
    heading = f"# Faults of a cluster\n\n{about['date']}, `make cluster` at {about['darkroom']}: {about['cpu']}\n"
    with tempfile.TemporaryDirectory(prefix="darkroom-cluster-") as folder, scene_with(Path(folder)) as scene:
        for fault in (fault for fault in FAULTS if not options.only or fault.name in options.only):
            if fault.needs and not shutil.which(fault.needs):
                say(f"{fault.name}: left out, as {fault.needs} is not installed")
                continue
            try:
                outage, replicas_recovered_s = struck(scene, fault)
            except ClusterFailed as error:
                complaints.append(f"{fault.name}: {error}")
                break
            records.append(
                {
                    "fault": fault.name,
                    "sent": outage.sent,
                    "lost": dict(outage.lost),
                    "wrong": outage.wrong,
                    "slow": outage.slow,
                    "slowest_s": outage.slowest_s,
                    "clients_recovered_s": outage.whole_after_s,
                    "replicas_recovered_s": replicas_recovered_s,
                }
            )
            rows.append(row(records[-1]))
            say("  ".join(rows[-1]))
            complaints += [f"{fault.name}: {each}" for each in fault.complaints(outage)]
            if not options.only:
                write(RESULTS / "cluster", [about, *records], f"{heading}\n{table.markdown(HEADER, rows)}")
    sys.stdout.write(table.text(HEADER, rows))
    sys.stdout.write("".join(f"beyond its bound: {complaint}\n" for complaint in complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    run(main)
