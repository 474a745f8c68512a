"""What is chosen for a replica, and where each value stands in serve_config.yaml."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployments.config import DEPLOYMENT


@dataclass(frozen=True, slots=True)
class Settings:
    """All of a replica's settings that depend on the machine, the model and the images."""

    workers: int
    threads: int  # batches side by side on a CPU; 1 on CUDA
    batch: int  # images that the model takes at once, at most
    batch_sizes: tuple[int, ...]  # that are warmed; the last one is at least `batch`
    chunk_bytes: int
    slots: int  # images
    batch_wait_s: float
    max_wait_s: float
    max_ongoing_requests: int
    max_bytes_in_flight: int
    target_ongoing_requests: int  # from which on another replica is started
    num_cpus: float

    @property
    def args(self) -> Mapping[str, Any]:
        """Those that stand under `args`, fixed for the life of a replica."""
        return {
            "max_ongoing_requests": self.max_ongoing_requests,
            "num_cpus": self.num_cpus,
            "pipeline": {
                "workers": self.workers,
                "threads": self.threads,
                "batch_sizes": [*self.batch_sizes],
                "chunk_bytes": self.chunk_bytes,
                "slots": self.slots,
            },
        }

    @property
    def user_config(self) -> Mapping[str, Any]:
        """Those that change live."""
        return {
            "max_batch_size": self.batch,
            "batch_wait_s": self.batch_wait_s,
            "max_wait_s": self.max_wait_s,
            "max_bytes_in_flight": self.max_bytes_in_flight,
        }

    @property
    def autoscaling_config(self) -> Mapping[str, Any]:
        """Of Serve's own, where the deployment has such."""
        return {"target_ongoing_requests": self.target_ongoing_requests}


Put = Callable[[dict[str, Any], str, Any], None]
"""Sets a value in a mapping."""


def written_into(application: dict[str, Any], settings: Settings, put: Put = operator.setitem) -> None:
    """Sets the values in an application of a configuration, in place, and leaves everything else as it is."""
    if not application.get("deployments"):
        application["deployments"] = [{"name": DEPLOYMENT}]
    deployment = application["deployments"][0]
    _merge(application, {"args": settings.args}, put)
    _merge(deployment, {"user_config": settings.user_config}, put)
    if isinstance(deployment.get("autoscaling_config"), dict):
        _merge(deployment, {"autoscaling_config": settings.autoscaling_config}, put)


def _merge(target: dict[str, Any], values: Mapping[str, Any], put: Put) -> None:
    for key, value in values.items():
        if not isinstance(value, dict):
            put(target, key, value)
            continue
        if target.get(key) is None:
            put(target, key, {})
        _merge(target[key], value, put)
