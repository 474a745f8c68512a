"""Checks whether the minimum replicas of all applications can be placed on the nodes of a cluster."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.checks.chosen_application import name_of
from deployments.checks.own_faults import own_applications, written_or_empty
from deployments.checks.placement import least_replicas
from deployments.node import Node
from deployments.service_config import ServiceConfig

_STEPS: Final = 10_000
"""Steps in one CPU or GPU: Ray counts resources to the fourth decimal place, and so without rounding errors."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Nodes chosen for the minimum replicas of one application.

    Args:
        application: name of the application.
        config: its `args`, fitted to the cluster.
        minimum: replicas that have to run.
        nodes: number of the node of each replica that has room.
    """

    application: str
    config: ServiceConfig
    minimum: int
    nodes: Sequence[int]

    @property
    def fault(self) -> str | None:
        """Reason that some cannot be placed; None if all can."""
        if len(self.nodes) == self.minimum:
            return None
        size = f"num_cpus: {self.config.num_cpus:g}"
        if self.config.num_gpus:
            size += f" and num_gpus: {self.config.num_gpus:g}"
        have = f"only {len(self.nodes)} of {self.minimum} replicas have room" if self.nodes else "no replica has room"
        add = "add nodes" if self.nodes else "add a node of this size"
        return f"application {self.application}: {have}: each reserves {size} of one node; {add}, or {self._less()}"

    def _less(self) -> str:
        fewer = ", or a smaller min_replicas" if self.minimum > 1 else ""
        if self.config.num_gpus:
            return f"write device: cpu under args.pipeline, without replicas_per_gpu and gpu_share{fewer}"
        return f"write a smaller num_cpus under args{fewer}"


class _Room:
    """Free resources of one node, in Ray's steps. A replica's share of a GPU is on one GPU."""

    def __init__(self, node: Node) -> None:
        self._cpus, self.gpus = round(_STEPS * node.cpus), [_STEPS] * math.floor(node.gpus)

    @property
    def order(self) -> tuple[bool, int, int]:
        """Order of nodes for a replica that needs no GPU: those without one first, then by their free CPUs."""
        return (not self.gpus, self._cpus, sum(self.gpus))

    def take(self, cpus: float, gpus: float) -> bool:
        """Take the resources of a replica; return False if they are not there."""
        cpu_steps, gpu_steps = round(_STEPS * cpus), round(_STEPS * gpus)
        if cpu_steps > self._cpus:
            return False
        if gpu_steps:
            fullest = min((free for free in self.gpus if free >= gpu_steps), default=None)
            if fullest is None:
                return False
            self.gpus[self.gpus.index(fullest)] -= gpu_steps
        self._cpus -= cpu_steps
        return True


def placements(document: Mapping[str, Any], nodes: Sequence[Node]) -> list[Placement]:
    """Place the minimum replicas of all applications, each on the node with the most room left.

    Args:
        document: content of a sound configuration.
        nodes: the nodes that are alive, with their total resources.
    """
    rooms, found = [_Room(node) for node in nodes], list[Placement]()
    for _, application in own_applications(document):
        config = ServiceConfig.model_validate(written_or_empty(application, "args")).fitted(nodes)
        minimum, used = least_replicas(application), list[int]()
        for _ in range(minimum):
            largest_first = sorted(range(len(rooms)), key=lambda number: rooms[number].order, reverse=True)
            place = next((n for n in largest_first if rooms[n].take(config.num_cpus or 0.0, config.num_gpus)), None)
            if place is None:
                break
            used.append(place)
        found.append(Placement(name_of(application), config, minimum, used))
    return found
