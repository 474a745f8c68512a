"""The document of `GET /info` about a replica: its model, its sizes, and the settings in force."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from deployments.version import version_of
from pipeline.model.source_kind import has_named_weights

if TYPE_CHECKING:
    from pipeline.engine import Engine


def information(
    engine: "Engine", config: ServiceConfig, live: LiveConfig, requests: Mapping[str, int]
) -> dict[str, Any]:
    """Describe a running engine, with the field names of openapi.yaml.

    Args:
        engine: the replica's engine.
        config: settings that are fixed for the life of the replica.
        live: the settings in force.
        requests: number of requests that have ended since the start, by outcome.
    """
    engine_stats, usual = engine.stats, live.of_head(engine.head.parameters)
    return {
        "darkroom": version_of("darkroom"),
        "model": config.pipeline.model,
        "weights": config.pipeline.weights if has_named_weights(config.pipeline.model) else None,
        "weights_from": engine.weights_from,
        "head": type(engine.head).__name__,
        "parameters": {name: {**each.schema, "default": usual[name]} for name, each in engine.head.parameters.items()},
        "device": engine.device_kind,
        "runtime": engine.computed_as.runtime,
        "dtype": engine.dtype,
        "computed_as": engine.computed_as.way,
        "runtimes_compared": [asdict(trial) for trial in engine.computed_as.trials],
        "decode_workers": engine.decode_workers,
        "worker_sandbox": engine.sandbox,
        "concurrent_batches": engine.concurrent_batches,
        "start_s": {step: round(seconds, 2) for step, seconds in engine.start_s.items()},
        "num_cpus": config.num_cpus,
        "num_gpus": config.num_gpus,
        "transform": {
            name: value
            for name in engine.transform.__slots__
            if not isinstance(value := getattr(engine.transform, name), bytes)  # the user's own code
        },
        "transform_from": engine.transform_from,
        "args": config.model_dump(),
        "user_config": live.model_dump(),
        "batch_size": engine.batch_size,
        "in_work": engine_stats.in_work,
        "counts": {
            "requests": requests,
            "images_dropped": engine_stats.images_dropped,
            "workers_replaced": engine_stats.workers_replaced,
        },
    }
