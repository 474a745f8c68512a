"""Tests of the check of ports between nodes, on imitated machines with a real firewall."""

import json
import shutil
import sys
from collections.abc import Iterator

import pytest

from deployments.checks.open_ports import needed_ports
from harness.local_service import shipped_config
from harness.machines import Machine, Machines, unsupported_reason

ASK = """
import json, sys
from deployments.checks.open_ports import closed_ports
print(json.dumps([*closed_ports(sys.argv[1:], {"clients need it": [8000], "replicas need it": range(30000, 30004)})]))
"""
ALL = "30000, 30001, 30002, 30003"
FIREWALL = """
table inet between {{
    chain input {{
        type filter hook input priority 0; policy accept;
        {rules}
    }}
}}
"""

MISSING = unsupported_reason() or (None if shutil.which("nft") else "needs nft (Debian's nftables)")
needs_machines = pytest.mark.skipif(MISSING is not None, reason=f"{MISSING}")


@pytest.fixture(scope="module")
def network() -> Iterator[Machines]:
    """Return a network of its own."""
    with Machines() as machines:
        yield machines


@pytest.mark.parametrize(
    ("rules", "closed"),
    [
        ("", []),
        ("tcp dport 8000 drop", ["8000"]),
        ("tcp dport 30000-31000 drop", [ALL]),
        ("tcp dport { 30000, 30002 } drop", ["30000, 30002"]),
        ("tcp dport 30000-31000 reject with icmpx admin-prohibited", [ALL]),
        ("tcp dport 30000-31000 reject with tcp reset", []),  # looks like a node on which nobody listens
        ("drop", ["8000", ALL]),
    ],
)
@needs_machines
def test_closed_ports_are_told_and_open_ones_are_not(network: Machines, rules: str, closed: list[str]) -> None:
    """A port on which nobody listens is open; one whose packets a firewall drops or forbids is closed, and named."""
    here, there = network.add("here"), network.add("there")
    if rules:
        _firewall(there, rules)
    asked = here.run([sys.executable, "-c", ASK, here.address, there.address], {})
    said = json.loads(asked.stdout)
    assert len(said) == len(closed), said
    for line, ports in zip(said, closed, strict=True):
        assert line.startswith(f"node {there.address}: port {ports} is closed to this machine; ")
        assert line.endswith("need it; open it in the firewall between the nodes")


def _firewall(machine: Machine, rules: str) -> None:
    done = machine.run(["nft", "-f", "-"], {}, stdin=FIREWALL.format(rules=rules))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("written", ["abc", "0", "-1", "65530", "3e4"])
def test_a_variable_that_is_no_port_is_told(written: str) -> None:
    """A value of the variable that leaves no ports for replicas is refused, with its name and value."""
    with pytest.raises(ValueError, match=f"^RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT={written} is no port"):
        needed_ports(shipped_config(), {"RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": written})


def test_the_ports_are_those_of_the_configuration_and_the_environment() -> None:
    """Clients' port is that of the configuration; replicas' ports begin where the environment says."""
    document = shipped_config()
    document["http_options"]["port"] = 8080
    clients, replicas = needed_ports(document, {"RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": "20000"}).values()
    assert (list(clients), replicas[0]) == ([8080], 20000)
    del document["http_options"]
    clients, replicas = needed_ports(document, {}).values()
    assert (list(clients), replicas[0]) == ([8000], 30000)
