"""Present settings of a configuration, with defaults and what the machine decides."""

from collections.abc import Mapping
from typing import Any, Final

from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from tuning.replica_settings import Settings

_SERVES_TARGET: Final = 2
"""Serve's own default of `target_ongoing_requests`."""


def present_settings(application: Mapping[str, Any], config: ServiceConfig, live: LiveConfig) -> Settings:
    """Reads the settings that a configuration has on this machine.

    Args:
        application: of the configuration.
        config: its `args`, fitted to this machine and placed on it.
        live: its `user_config`.
    """
    pipeline = config.pipeline
    assert pipeline.decode_workers is not None  # noqa: S101 - it has been placed
    assert pipeline.concurrent_batches is not None  # noqa: S101 - likewise
    (deployment,) = application.get("deployments") or [{}]
    scaling = deployment.get("autoscaling_config")
    return Settings(
        decode_workers=pipeline.decode_workers,
        concurrent_batches=pipeline.concurrent_batches,
        batch=live.max_batch_size,
        batch_sizes=pipeline.batch_sizes,
        chunk_bytes=pipeline.chunk_bytes,
        slots=pipeline.slots,
        batch_window_s=live.batch_window_s,
        max_queue_wait_s=live.max_queue_wait_s,
        max_ongoing_requests=config.max_ongoing_requests,
        max_bytes_in_flight=live.max_bytes_in_flight,
        target_ongoing_requests=(
            scaling.get("target_ongoing_requests", _SERVES_TARGET) if isinstance(scaling, dict) else _SERVES_TARGET
        ),
        num_cpus=config.num_cpus or 0.0,
    )
