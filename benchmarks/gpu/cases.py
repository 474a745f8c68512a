"""The settings in which the service is measured: as it is shipped, and with ResNet-50 and several replicas a GPU."""

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.servers import ROOT

CORES: Final = len(os.sched_getaffinity(0))
ONGOING: Final = 2048
"""Requests that a replica takes: a closed loop then shows what it can do, and not what it refuses."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """What clients send: images of one size, so many a request.

    Args:
        size: "small" or "large", of `decoding.works`.
        together: images a request.
        clients: that ask at a time.
    """

    size: str
    together: int
    clients: int


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of the service, and what is asked of it.

    Args:
        name: in the table.
        document: weights of ResNet-50 -> a configuration as in serve_config.yaml.
        model: that it serves.
        loads: one after another.
    """

    name: str
    document: Callable[[Path], Document]
    model: str
    loads: tuple[Load, ...]

    def __str__(self) -> str:
        """The name."""
        return self.name


def shipped() -> Document:
    """serve_config.yaml, parsed."""
    document: Document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    return document


def resnet(weights: Path, dtype: str, batch: int, *, replicas: int = 1) -> Document:
    """ResNet-50 in a number format, in batches of up to `batch`, by that many replicas on one GPU."""
    sizes = [1 << power for power in range(batch.bit_length())]
    pipeline = {"model": "resnet50", "weights": str(weights), "dtype": dtype, "batch_sizes": sizes}
    document = patient(shipped(), {**pipeline, "slots": max(256, 8 * batch)}, batch)
    return sharing_a_gpu(document, replicas) if replicas > 1 else document


def patient(document: Document, pipeline: Document, batch: int) -> Document:
    """The same with other settings of the pipeline, one replica, and nobody refused."""
    changed = copy.deepcopy(document)
    (application,) = changed["applications"]
    (deployment,) = application["deployments"]
    application["args"]["max_ongoing_requests"] = deployment["max_queued_requests"] = ONGOING
    application["args"]["pipeline"].update(pipeline)
    deployment["user_config"].update({"max_wait_s": 60.0, "max_batch_size": batch})
    deployment.pop("autoscaling_config", None)
    deployment["num_replicas"] = 1
    return changed


def sharing_a_gpu(document: Document, replicas: int) -> Document:
    """The same with that many replicas on one GPU. Each has its part of the cores, and decodes on all but one."""
    (application,) = document["applications"]
    (deployment,) = application["deployments"]
    cpus = max(1, CORES // replicas)
    deployment["num_replicas"] = replicas
    deployment["ray_actor_options"] = {"num_cpus": cpus, "num_gpus": round(1 / replicas, 3)}
    application["args"]["pipeline"]["workers"] = max(1, cpus - 1)
    return document


def on_two_cores() -> Document:
    """The shipped model on the CPU, small, in two replicas: what a dry run starts."""
    pipeline = {"device": "cpu", "batch_sizes": [1, 2], "slots": 64, "workers": 1, "threads": 1}
    document = patient(shipped(), pipeline, 2)
    (deployment,) = document["applications"][0]["deployments"]
    deployment["num_replicas"] = 2
    deployment["ray_actor_options"] = {"num_cpus": 0.5}
    return document


_ONE, _MANY, _LARGE = Load("small", 1, 256), Load("small", 32, 48), Load("large", 1, 32)

CASES: Final = (
    Case(
        "as shipped",
        lambda _: shipped(),
        "mobilenet_v2",
        (Load("small", 1, 1), Load("small", 1, 64), Load("small", 32, 8), Load("large", 1, 16)),
    ),
    Case("ResNet-50, float16, 1 replica", lambda path: resnet(path, "float16", 128), "resnet50", (_ONE, _MANY, _LARGE)),
    Case(
        "ResNet-50, float16, 4 replicas a GPU",
        lambda path: resnet(path, "float16", 64, replicas=4),
        "resnet50",
        (_ONE, _MANY, _LARGE),
    ),
    Case(
        "ResNet-50, float16, 8 replicas a GPU",
        lambda path: resnet(path, "float16", 32, replicas=8),
        "resnet50",
        (Load("small", 1, 384), Load("small", 32, 64)),
    ),
    Case(
        "ResNet-50, float16, 2 replicas a GPU",
        lambda path: resnet(path, "float16", 64, replicas=2),
        "resnet50",
        (_ONE, _MANY),
    ),
    Case("ResNet-50, auto, 1 replica", lambda path: resnet(path, "auto", 32), "resnet50", (_MANY,)),
)
"""The most valuable first: time may end before the last."""

DRY_CASES: Final = (
    Case(
        "two replicas on the CPU", lambda _: on_two_cores(), "mobilenet_v2", (Load("small", 4, 2), Load("large", 1, 2))
    ),
)


def chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """The cases that have one of these in their names; all of them where there is none."""
    return [case for case in cases if not names or any(name in case.name for name in names)]
