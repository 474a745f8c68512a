"""Checks whether the replicas of all applications in a configuration can be placed on one machine."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from deployments.checks.chosen_application import name_of
from deployments.checks.own_faults import own_applications, own_deployments, written_or_empty
from deployments.node import Node
from deployments.service_config import ServiceConfig


def placement_fault(document: Mapping[str, Any], cpus: int, *, may_have_gpu: bool) -> str | None:
    """Describe why the least replicas of all applications do not fit on a machine's CPUs; None if they may fit.

    Ray counts reserved CPUs. A replica for which none is left waits, on a machine alone for ever.

    Args:
        document: content of the configuration.
        cpus: CPUs of the machine.
        may_have_gpu: whether `device: auto` may find a GPU; then the reservations of those applications are unknown.
    """
    needs = dict[str, float]()
    for _, application in own_applications(document):
        try:
            config = ServiceConfig.model_validate(written_or_empty(application, "args"))
        except ValidationError:  # reported by own_faults
            continue
        if config.pipeline.device == "cpu" or (config.pipeline.device == "auto" and not may_have_gpu):
            reserved = config.fitted([Node(cpus)]).num_cpus or 0.0
            needs[name_of(application)] = reserved * least_replicas(application)
    together = sum(needs.values())
    if together <= cpus:
        return None
    each = ", ".join(f"{name} {need:g}" for name, need in needs.items())
    return (
        f"the replicas reserve {together:g} CPUs together ({each}), and this machine has {cpus}: not all can be "
        f"placed; write num_cpus: {_share(cpus, len(needs))} under args of each application"
    )


def least_replicas(application: Mapping[str, Any]) -> int:
    """Return how many replicas of an application run at least; one where it may scale to zero."""
    for _, deployment in own_deployments(application):
        scaling = deployment.get("autoscaling_config")
        least = scaling.get("min_replicas", 1) if isinstance(scaling, dict) else deployment.get("num_replicas", 1)
        return max(1, least) if isinstance(least, int) else 1
    return 1


def _share(cpus: int, applications: int) -> str:
    """Write the largest share of the CPUs that each application can reserve, in tenths if it is below one."""
    share = cpus / applications
    return f"{int(share) if share >= 1 else int(share * 10) / 10:g}"
