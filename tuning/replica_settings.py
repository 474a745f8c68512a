"""Settings of a replica that tuning chooses, and their places in serve_config.yaml."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deployments.service_config import DEPLOYMENT_NAME


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a replica that depend on the machine, the model and the images."""

    decode_workers: int
    concurrent_batches: int  # on a CPU; 1 on CUDA
    batch: int  # images that the model takes at once, at most
    batch_sizes: tuple[int, ...]  # that are warmed; the last one is at least `batch`
    chunk_bytes: int
    slots: int  # images in shared memory
    batch_window_s: float
    max_queue_wait_s: float
    max_ongoing_requests: int
    max_bytes_in_flight: int
    num_cpus: float

    @property
    def key(self) -> tuple[object, ...]:
        """The settings that affect speed: all but the limits."""
        return (
            *(self.decode_workers, self.concurrent_batches, self.batch, self.batch_sizes),
            *(self.chunk_bytes, self.slots, self.batch_window_s),
        )

    @property
    def args(self) -> Mapping[str, Any]:
        """Settings under `args`, fixed for the life of a replica."""
        return {
            "max_ongoing_requests": self.max_ongoing_requests,
            "num_cpus": self.num_cpus,
            "pipeline": {
                "decode_workers": self.decode_workers,
                "concurrent_batches": self.concurrent_batches,
                "batch_sizes": [*self.batch_sizes],
                "chunk_bytes": self.chunk_bytes,
                "slots": self.slots,
            },
        }

    @property
    def user_config(self) -> Mapping[str, Any]:
        """Settings under `user_config`, which change live."""
        return {
            "max_batch_size": self.batch,
            "batch_window_s": self.batch_window_s,
            "max_queue_wait_s": self.max_queue_wait_s,
            "max_bytes_in_flight": self.max_bytes_in_flight,
        }


Put = Callable[[dict[str, Any], str, Any], None]
"""Sets a value in a mapping."""

_SIZED_BY: Final = ("decode_workers", "concurrent_batches")
"""Settings from which Ray's reservation of cores follows if they are written without num_cpus."""


def written_into(
    application: dict[str, Any], settings: Settings, put: Put = operator.setitem, present: Settings | None = None
) -> None:
    """Write settings into an application of a configuration, in place.

    Args:
        application: of a configuration.
        settings: to be written.
        put: sets one value.
        present: what the application comes to as it is; values that are the same are not written. All are where None.
    """
    values = [settings.args, settings.user_config]
    if present:
        values = [_different(new, old) for new, old in zip(values, (present.args, present.user_config), strict=True)]
        if any(key in values[0].get("pipeline", {}) for key in _SIZED_BY):
            values[0] = {**values[0], "num_cpus": settings.num_cpus}
    args, user_config = values
    if user_config and not application.get("deployments"):
        application["deployments"] = [{"name": DEPLOYMENT_NAME}]
    deployment = (application.get("deployments") or [{}])[0]
    if args:
        _merge(application, {"args": args}, put)
    if user_config:
        _merge(deployment, {"user_config": user_config}, put)


def _different(new: Mapping[str, Any], old: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the values of `new` that differ from `old`, recursively."""
    found = {}
    for key, value in new.items():
        if isinstance(value, dict):
            value = _different(value, old[key])
        elif value == old[key]:
            continue
        if value != {}:
            found[key] = value
    return found


def _merge(target: dict[str, Any], values: Mapping[str, Any], put: Put) -> None:
    for key, value in values.items():
        if not isinstance(value, dict):
            put(target, key, value)
            continue
        if target.get(key) is None:
            put(target, key, {})
        _merge(target[key], value, put)
