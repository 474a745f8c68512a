"""Tests of a service on several nodes: any balancer reaches every replica, and a node that is lost costs only its own.

The last test switches a node off. `make cluster` causes more faults, and records what each costs.
"""

import copy
import sys
from collections.abc import Iterator

import httpx
import pytest
import yaml

from harness.local_service import Document
from harness.machines import Machine, unsupported_reason
from harness.ray_cluster import DASHBOARD_PORT, HTTP_PORT, SERVE, RayCluster
from tests.faults.cluster_faults import RATE
from tests.faults.cluster_scene import service_config
from tests.faults.outage import measure
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(unsupported_reason() is not None, reason=f"{unsupported_reason()}")]

LOST_WITH_A_NODE = 10
"""Most requests that are lost with a node at 8 a second: those in its replica, and those until balancers notice."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Return a head and two nodes, with one replica on each node."""
    with RayCluster(tmp_path_factory.mktemp("cluster")) as nodes:
        nodes.add("one", cpus=1)
        nodes.add("two", cpus=1)
        nodes.deploy(service_config())
        nodes.wait_for_replicas(2)
        for machine in nodes.nodes.values():
            nodes.wait_until_it_answers(machine)
        yield nodes


def replica_that_answers(cluster: RayCluster, machine: Machine) -> str:
    """Return the id of a replica, asked through the balancer of a machine."""
    with cluster.clients.network():
        answer = httpx.get(f"http://{machine.address}:{HTTP_PORT}/stats", timeout=10, trust_env=False)
    return str(answer.raise_for_status().json()["replica"])


def test_each_node_has_a_replica_and_every_balancer_reaches_both(cluster: RayCluster) -> None:
    """Replicas with a node's cores each are on a node each; clients reach both by any node."""
    replicas = {replica["replica_id"]: replica["node_ip"] for replica in cluster.running()}
    assert sorted(replicas.values()) == sorted(machine.address for machine in cluster.nodes.values())
    for machine in cluster.nodes.values():
        seen = set[str]()

        def has_seen_both(machine: Machine = machine, seen: set[str] = seen) -> bool:
            seen.add(replica_that_answers(cluster, machine))
            return seen == replicas.keys()

        until(has_seen_both)


def test_top_shows_the_replicas_of_all_nodes(cluster: RayCluster) -> None:
    """`darkroom top` finds them through the balancer of one node."""
    url = f"http://{cluster.nodes['one'].address}:{HTTP_PORT}"
    shown = cluster.clients.run([sys.executable, "-m", "commands.main", "top", url, "--once"], {})
    assert f"{url}  2 replicas" in shown.stdout, shown.stderr
    assert all(f"replica {replica['replica_id']}  " in shown.stdout for replica in cluster.running())


def test_a_replica_without_room_is_named_and_blocks_nothing(cluster: RayCluster) -> None:
    """Serve says within half a minute that a third replica has no room; settings of the others change meanwhile.

    A larger `max_replicas` alone asks for no replica that has no room.
    """
    document = service_config()
    (deployment,) = document["applications"][0]["deployments"]
    deployment["autoscaling_config"].update(min_replicas=2, max_replicas=8)
    deployment["user_config"]["top_k"] = 3
    cluster.deploy(document)
    cluster.wait_until(lambda: _top_ks(cluster) == {3}, "the setting is in force")
    assert len(cluster.replicas()) == 2
    deployment["autoscaling_config"]["min_replicas"] = 3
    cluster.deploy(document)
    cluster.wait_until(lambda: "taken more than 30s to be scheduled" in _told(cluster), "Serve says so", 40.0)
    deployment["user_config"]["top_k"] = 2
    cluster.deploy(document)
    cluster.wait_until(lambda: _top_ks(cluster) == {2}, "another setting is in force")
    cluster.deploy(service_config())
    cluster.wait_for_replicas(2)


def _told(cluster: RayCluster) -> str:
    return cluster.head.run([SERVE, "status"], cluster.environment).stdout


def _top_ks(cluster: RayCluster) -> set[int]:
    """Return `top_k` in force, of as many replicas as a few requests reach."""
    with cluster.clients.network():
        url = f"http://{cluster.nodes['one'].address}:{HTTP_PORT}/info"
        answers = [httpx.get(url, timeout=10, trust_env=False, headers={"Connection": "close"}) for _ in range(6)]
    return {answer.json()["user_config"]["top_k"] for answer in answers if answer.is_success}


def test_a_check_says_what_the_cluster_cannot_hold(cluster: RayCluster) -> None:
    """`darkroom check --cluster` names nodes for the replicas, and says which have none, and what nobody can reach."""
    address = f"http://127.0.0.1:{DASHBOARD_PORT}"

    def checked(document: Document, url: str = address) -> tuple[int, str, str]:
        check = ["-m", "commands.main", "check", "--no-model", "--cluster", url, "/dev/stdin"]
        done = cluster.head.run([sys.executable, *check], cluster.environment, stdin=yaml.safe_dump(document))
        return done.returncode, done.stdout, done.stderr

    status, told, refused = checked(service_config())
    assert (status, refused) == (0, "")
    assert "application darkroom: cpu, num_cpus: 1, num_gpus: 0; 2 of 2 replicas fit: 10.77.0." in told
    large = copy.deepcopy(service_config())
    large["http_options"]["host"] = "127.0.0.1"
    large["applications"][0]["args"]["num_cpus"] = 2
    status, told, refused = checked(large)
    assert status == 1
    assert "application darkroom: no replica has room: each reserves num_cpus: 2 of one node" in refused
    assert "http_options.host: 127.0.0.1 cannot be reached from the 2 other nodes" in refused
    for url in ("http://127.0.0.1:9", "http://127.0.0.1:abc", f"http://{cluster.nodes['one'].address}:{HTTP_PORT}"):
        status, _, refused = checked(service_config(), url)
        assert status == 1
        assert f"{url}: " in refused
        assert "write the URL of Ray's dashboard" in refused


def test_a_node_that_is_switched_off_loses_only_its_own_requests(cluster: RayCluster) -> None:
    """Clients of another node get right answers all the time, except for the few requests that the lost node had."""
    one, two = cluster.nodes["one"], cluster.nodes["two"]
    with cluster.clients.network():
        outage = measure(cluster.target(one), two.switch_off, for_s=15.0, rate=RATE)
    assert outage.wrong == 0
    assert outage.lost.total() <= LOST_WITH_A_NODE, outage
