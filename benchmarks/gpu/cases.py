"""Settings for measurements of the service: as shipped, and with ResNet-50 and several replicas a GPU."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from harness.local_service import Document, shipped_config

MAX_ONGOING_REQUESTS: Final = 2048
"""Requests in a replica at a time: so many that a closed loop measures the capacity, not refusals."""


@dataclass(frozen=True, slots=True)
class CaseLoad:
    """Load of the clients, with images of one size.

    Args:
        size: "small" or "large", of `decoding.works`.
        together: images in one request.
        clients: number of closed-loop clients.
    """

    size: str
    together: int
    clients: int


@dataclass(frozen=True, slots=True)
class Case:
    """A setting of the service, and its loads.

    Args:
        name: name in the table.
        document: file with weights of ResNet-50 -> a configuration for Serve.
        model: name of the model.
        loads: loads, one after another.
    """

    name: str
    document: Callable[[Path], Document]
    model: str
    loads: tuple[CaseLoad, ...]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def patient(document: Document, pipeline: Document, batch: int, replicas: int = 1) -> Document:
    """Make a configuration with other pipeline settings, a fixed number of replicas, and no refusals."""
    changed = copy.deepcopy(document)
    (application,) = changed["applications"]
    (deployment,) = application["deployments"]
    application["args"]["max_ongoing_requests"] = deployment["max_queued_requests"] = MAX_ONGOING_REQUESTS
    application["args"]["pipeline"].update(pipeline)
    deployment["user_config"].update({"max_queue_wait_s": 60.0, "max_batch_size": batch})
    deployment.pop("autoscaling_config", None)
    deployment["num_replicas"] = replicas
    return changed


def on_gpu(pipeline: Document, batch: int, replicas: int) -> Document:
    """Make serve_config.gpu.yaml with `replicas` on one GPU, and batches of up to `batch`."""
    document = shipped_config("serve_config.gpu.yaml")
    args = document["applications"][0]["args"]
    args["replicas_per_gpu"] = replicas
    sizes = [size for size in args["pipeline"]["batch_sizes"] if size <= batch]
    return patient(document, {**pipeline, "batch_sizes": sizes}, batch, replicas)


def resnet(weights: Path, dtype: str, batch: int, replicas: int) -> Document:
    """Make serve_config.gpu.yaml with ResNet-50."""
    return on_gpu({"model": "resnet50", "weights": str(weights), "dtype": dtype}, batch, replicas)


def on_two_cores() -> Document:
    """Make the configuration of a dry run: the shipped model on the CPU, in two small replicas."""
    pipeline = {"device": "cpu", "batch_sizes": [1, 2], "slots": 64, "decode_workers": 1, "concurrent_batches": 1}
    document = patient(shipped_config("serve_config.yaml"), pipeline, 2, replicas=2)
    document["applications"][0]["args"]["num_cpus"] = 0.5
    return document


_SINGLE_IMAGES: Final = CaseLoad("small", 1, 256)
_MANY_IMAGES: Final = CaseLoad("small", 32, 48)
_LARGE_IMAGES: Final = CaseLoad("large", 1, 32)
_SHIPPED: Final = (
    CaseLoad("small", 1, 1),
    CaseLoad("small", 1, 64),
    CaseLoad("small", 32, 8),
    CaseLoad("large", 1, 16),
)


def _resnet(replicas: int, batch: int, *loads: CaseLoad, dtype: str = "float16") -> Case:
    name = f"ResNet-50, {dtype}, {replicas} replica{'s' if replicas > 1 else ''} a GPU"
    return Case(name, partial(resnet, dtype=dtype, batch=batch, replicas=replicas), "resnet50", loads)


CASES: Final = (
    Case("serve_config.yaml", lambda _: shipped_config("serve_config.yaml"), "mobilenet_v2", _SHIPPED),
    _resnet(8, 64, CaseLoad("small", 1, 384), _MANY_IMAGES, _LARGE_IMAGES),
    _resnet(1, 64, _SINGLE_IMAGES, _MANY_IMAGES, _LARGE_IMAGES),
    _resnet(4, 64, _SINGLE_IMAGES, _MANY_IMAGES, _LARGE_IMAGES),
    Case(
        "serve_config.gpu.yaml, 8 replicas",
        lambda _: on_gpu({}, 64, 8),
        "mobilenet_v2",
        (_SINGLE_IMAGES, _MANY_IMAGES, _LARGE_IMAGES),
    ),
    _resnet(2, 64, _SINGLE_IMAGES, _MANY_IMAGES),
    _resnet(1, 32, _MANY_IMAGES, dtype="auto"),
)
"""All cases, the most valuable first: time may run out before the last."""

DRY_CASES: Final = (
    Case(
        "two replicas on the CPU",
        lambda _: on_two_cores(),
        "mobilenet_v2",
        (CaseLoad("small", 4, 2), CaseLoad("large", 1, 2)),
    ),
)


def chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """Select cases by parts of their names; all without names."""
    return [case for case in cases if not names or any(name in case.name for name in names)]
