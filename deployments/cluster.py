"""Reads the nodes of the Ray cluster that this process belongs to, and where Ray logs this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node  # a DeveloperAPI without a public home in Ray 2.60

from deployments.node import Node


def nodes() -> list[Node]:
    """List the nodes that are alive, each with its total resources."""
    return [_node(entry["Resources"]) for entry in _alive()]


def free_on_nodes() -> list[Node]:
    """List the nodes that are alive, each with its free resources; Ray updates them with a short delay."""
    free: Mapping[str, Mapping[str, float]] = available_resources_per_node()  # type: ignore[no-untyped-call]
    return [_node(free.get(entry["NodeID"], {})) for entry in _alive()]


def own_node() -> Node:
    """Find the node that this process runs on, with its total resources.

    Raises:
        RuntimeError: Ray does not list the node as alive.
    """
    own = ray.get_runtime_context().get_node_id()
    for entry in _alive():
        if entry["NodeID"] == own:
            return _node(entry["Resources"])
    raise RuntimeError(f"the replica cannot be sized: Ray does not list its own node {own} as alive; start it again")


def reserved() -> Node:
    """Return what Ray has reserved for the actor that calls this."""
    return _node(ray.get_runtime_context().get_assigned_resources())  # type: ignore[no-untyped-call]


def error_log() -> Path | None:
    """Find the file to which Ray writes the standard error of this process; None if Ray does not redirect it."""
    path: str = ray._private.worker.global_worker.get_err_file_path()  # has no public home in Ray 2.60
    return Path(path) if path else None


def run_folder() -> Path | None:
    """Find the folder of this machine that Ray makes anew for each of its runs; None in a process that is not Ray's."""
    node = ray._private.worker._global_node  # has no public home in Ray 2.60
    return Path(node.get_session_dir_path()) if node else None


def _alive() -> list[Mapping[str, Any]]:
    entries: list[Mapping[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [entry for entry in entries if entry["Alive"]]


def _node(resources: Mapping[str, float]) -> Node:
    """Make a Node of Ray's resources; Ray leaves out those that are used up."""
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0))
