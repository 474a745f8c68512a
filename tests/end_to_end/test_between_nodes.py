"""Tests of what nodes send each other: the ports of docs/deployment.md are enough, and Ray encrypts its part by TLS."""

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from harness.firewall import let_in
from harness.machines import Machine, unsupported_reason
from harness.ray_cluster import DASHBOARD_PORT, GCS_PORT, HTTP_PORT, RayCluster
from harness.repository import ROOT
from tests.end_to_end.test_several_nodes import replica_that_answers
from tests.faults.cluster_scene import service_config
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(unsupported_reason() is not None, reason=f"{unsupported_reason()}")]

RAYS_PORTS = ("20000", "20001", "20100-20199")
"""Ports of node manager, object manager and workers, as the options below give them."""

OPTIONS = (
    "--node-manager-port=20000",
    "--object-manager-port=20001",
    "--min-worker-port=20100",
    "--max-worker-port=20199",
)
OPEN_ON = {"head": (f"{GCS_PORT}", *RAYS_PORTS, "8500")}
OPEN_ON_NODES = (*RAYS_PORTS, f"{HTTP_PORT}", "30000-31000")
"""The table in docs/deployment.md, without the port of the dashboard, which is asked on the head itself."""


def _closed_but_for_the_listed(machine: Machine) -> None:
    let_in(machine, OPEN_ON.get(machine.name, OPEN_ON_NODES))


def _serves_on_both(cluster: RayCluster) -> None:
    """Start a replica on each of two nodes, and wait until each balancer has passed a request to both."""
    for name in ("one", "two"):
        cluster.add(name, cpus=1)
    cluster.deploy(service_config())
    cluster.wait_for_replicas(2)
    replicas = {replica["replica_id"] for replica in cluster.running()}
    for machine in cluster.nodes.values():
        cluster.wait_until_it_answers(machine)
        seen = set[str]()

        def has_seen_both(machine: Machine = machine, seen: set[str] = seen) -> bool:
            seen.add(replica_that_answers(cluster, machine))
            return seen == replicas

        until(has_seen_both)


@pytest.mark.skipif(not shutil.which("nft"), reason="needs nftables")
def test_the_listed_ports_are_enough(tmp_path: Path) -> None:
    """A cluster whose nodes let in only the ports that docs/deployment.md lists serves from all of its nodes."""
    listed = (ROOT / "docs/deployment.md").read_text("utf-8")
    for port in (GCS_PORT, HTTP_PORT, 8500, "30000 to 31000", DASHBOARD_PORT):
        assert re.search(rf"^\| {port} \|", listed, re.MULTILINE), port
    with RayCluster(tmp_path, options=OPTIONS, prepare=_closed_but_for_the_listed) as cluster:
        _serves_on_both(cluster)
        with cluster.clients.network():
            assert _is_open(cluster.nodes["one"], HTTP_PORT)
            assert not _is_open(cluster.nodes["one"], 9101)  # HAProxy's own page, which is not in the list


def _is_open(machine: Machine, port: int) -> bool:
    with suppress(OSError), socket.create_connection((machine.address, port), timeout=2.0):
        return True
    return False


@pytest.fixture
def certificate(shared_folder: Path) -> Path:
    """Return a folder with key and certificate of all nodes, signed by itself."""
    names = ",".join(f"IP:10.77.0.{number}" for number in range(1, 9))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nodes"]
    command += ["-addext", f"subjectAltName={names},IP:127.0.0.1,DNS:localhost"]
    done = subprocess.run(
        [*command, "-keyout", shared_folder / "key.pem", "-out", shared_folder / "certificate.pem"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return shared_folder


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_ray_speaks_tls_between_the_nodes(tmp_path: Path, certificate: Path) -> None:
    """With Ray's settings for TLS the service runs on two nodes, and nobody without the certificate joins."""
    environment = {
        "RAY_USE_TLS": "1",
        "RAY_TLS_SERVER_CERT": f"{certificate / 'certificate.pem'}",
        "RAY_TLS_SERVER_KEY": f"{certificate / 'key.pem'}",
        "RAY_TLS_CA_CERT": f"{certificate / 'certificate.pem'}",
    }
    with RayCluster(tmp_path, environment) as cluster:
        _serves_on_both(cluster)
        told = _handshake(cluster, cluster.head, GCS_PORT)
        assert "subject=CN = nodes" in told
        plain: Sequence[str] = ("ray", "status", f"--address={cluster.head.address}:{GCS_PORT}")
        done = cluster.clients.run(plain, {**cluster.environment, "RAY_USE_TLS": "0"}, timeout_s=60)
        assert done.returncode != 0, done.stdout


def _handshake(cluster: RayCluster, machine: Machine, port: int) -> str:
    command = ["openssl", "s_client", "-connect", f"{machine.address}:{port}"]
    return cluster.clients.run(command, {}, timeout_s=20).stdout
