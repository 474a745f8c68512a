"""Checks whether a cluster can hold the service, for `darkroom check --cluster`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployments.checks.address import DEFAULT_HOST
from deployments.checks.cluster_placement import placements
from deployments.checks.open_ports import closed_ports, needed_ports
from deployments.local.env_file import read_env
from deployments.local.serve_api import ServeApi, ServeApiError

if TYPE_CHECKING:
    from rich.console import Console

_THIS_MACHINE_ALONE: Final = ("127.", "localhost", "::1")


def check_cluster(console: "Console", document: Mapping[str, Any], address: str) -> list[str]:
    """Show the nodes for the minimum replicas; return what cannot be placed or reached, a line each.

    Args:
        console: shows the placement.
        document: content of a sound configuration.
        address: URL of Ray's dashboard, as `serve deploy --address` takes it.
    """
    environment = read_env(Path("serve.env")) | os.environ
    try:
        needed = needed_ports(document, environment)
        nodes = sorted(ServeApi("", environment, address).nodes(), key=lambda node: node[0])
    except ValueError as error:
        return [str(error)]
    except ServeApiError as error:
        return [f"{address}: {error}; write the URL of Ray's dashboard, such as http://10.0.0.1:8265"]
    found = placements(document, [node for _, node in nodes])
    for each in found:
        places = ", ".join(nodes[number][0] for number in each.nodes) or "no node"
        console.print(
            f"application {each.application}: {each.config.pipeline.device}, num_cpus: {each.config.num_cpus:g}, "
            f"num_gpus: {each.config.num_gpus:g}; {len(each.nodes)} of {each.minimum} replicas fit: {places}",
            soft_wrap=True,
        )
    used = {nodes[number][0] for each in found for number in each.nodes}
    faults = [fault for each in found if (fault := each.fault)]
    if others := len(nodes) - 1:
        faults += _hidden_from(others, (document.get("http_options") or {}).get("host", DEFAULT_HOST))
    return [*faults, *closed_ports(sorted(used), needed)]


def _hidden_from(others: int, host: str) -> list[str]:
    """Say that replicas listen where HAProxy on other nodes does not reach them."""
    if not host.startswith(_THIS_MACHINE_ALONE):
        return []
    nodes = "other node" if others == 1 else f"{others} other nodes"
    return [
        f"http_options.host: {host} cannot be reached from the {nodes}; write host: 0.0.0.0, and set API keys first"
    ]
