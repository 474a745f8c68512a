"""The configuration to tune, on this machine."""

import copy
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from deployments.live_config import LiveConfig
from deployments.local.endpoint import StartError
from deployments.node import Node
from deployments.service_config import ServiceConfig
from harness.local_service import Document
from pipeline.usable_cores import usable_cores
from tuning.present import present_settings
from tuning.replica_settings import Settings


@dataclass(frozen=True, slots=True)
class TunedConfig:
    """A configuration to tune, with the service to try settings on.

    Args:
        document: of the service: one application with one replica, on loopback, open to everybody there.
        config: of the replica, fitted to this machine.
        live: what the configuration says under `user_config`.
        cores: that a replica has.
        present: the settings that the configuration comes to on this machine.
        environment: of the service, beside that of this process.
    """

    document: Document
    config: ServiceConfig
    live: LiveConfig
    cores: int
    present: Settings
    environment: Mapping[str, str]

    @property
    def on_cpu(self) -> bool:
        """True if the model computes on the cores that decode."""
        return self.config.pipeline.device == "cpu"


def tuned_config(
    document: Mapping[str, Any], application: Mapping[str, Any], environment: Mapping[str, str]
) -> TunedConfig:
    """Read one application of a sound configuration on this machine.

    Raises:
        StartError: it is for a GPU, and this machine has none.
    """
    node = Node(cpus=float(usable_cores()), gpus=float(torch.cuda.device_count()))
    config = ServiceConfig.model_validate(application.get("args") or {}).fitted([node])
    if config.pipeline.device == "cuda" and not node.gpus:
        raise StartError(
            "device: cuda needs a GPU, and torch finds none on this machine; tune on a machine like those that will "
            "serve, or write device: auto"
        )
    (deployment,) = application.get("deployments") or [{}]
    live = LiveConfig.model_validate(deployment.get("user_config") or {})
    placed = config.placed(node)
    return TunedConfig(
        document=_alone(document, application),
        config=placed,
        live=live,
        cores=config.cores_on(node),
        present=present_settings(placed, live),
        environment=environment,
    )


def keep_to_cores(cores: int) -> frozenset[int]:
    """Keep this process and its later children on as many cores as a replica has; return the other cores."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[:cores])
    return frozenset(usable[cores:])


@contextmanager
def on_cores(others: Collection[int]) -> Iterator[None]:
    """Run the block on other cores than the service's, if there are any, so that clients cost it nothing."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, others or own)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _alone(document: Mapping[str, Any], application: Mapping[str, Any]) -> Document:
    alone = copy.deepcopy({**document, "applications": [application]})
    alone["http_options"] = {**(alone.get("http_options") or {}), "host": "127.0.0.1"}
    (application,) = alone["applications"]
    (application.get("args") or {}).pop("api_keys_file", None)
    for deployment in application.get("deployments") or []:
        if isinstance(scaling := deployment.get("autoscaling_config"), dict):
            scaling.update(min_replicas=1, max_replicas=1)
            scaling.pop("initial_replicas", None)
        elif "num_replicas" in deployment:
            deployment["num_replicas"] = 1
    return alone
