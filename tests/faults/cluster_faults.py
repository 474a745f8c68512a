"""Faults of a cluster of several machines, one after another, under load: what clients lose, and for how long.

The machines are imitated (`harness/machines.py`), Ray and the service are real. Clients send requests at a constant
rate, each on a connection of its own, to the balancer of one node. Writes `benchmarks/results/cluster.md` and `.json`.
`make cluster` runs it.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, Facts, parser_of, run, say, write
from harness.ray_cluster import GCS_PORT, ClusterFailed
from tests.faults.cluster_scene import ReplicaWatch, Scene, scene_with
from tests.faults.outage import SLOW_S, Outage, measure

RATE: Final = 8.0
"""Requests a second: less than one replica answers on a core that it shares with the whole cluster."""


HEADER: Final = (
    *("fault", "sent", "lost", "wrong", f"slower than {SLOW_S} s", "slowest s", "clients recovered after, s"),
    "two replicas again after, s",
)


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


# ---- the table ----------------------------------------------------------------------------------------------------


def struck(scene: Scene, fault: ClusterFault) -> tuple[Outage, float]:
    """Cause a fault in a whole scene.

    Returns:
        Losses of clients, and the seconds until two replicas ran again; 0 if they did all the time.
    """
    scene.settle()
    watch = ReplicaWatch(scene.cluster)

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
