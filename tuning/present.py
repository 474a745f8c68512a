"""Present settings of a configuration, with defaults and what the machine decides."""

from deployments.live_config import LiveConfig
from deployments.service_config import ServiceConfig
from tuning.replica_settings import Settings


def present_settings(config: ServiceConfig, live: LiveConfig) -> Settings:
    """Read the settings that a configuration has on this machine.

    Args:
        config: `args` of the configuration, fitted to this machine and placed on it.
        live: its `user_config`.
    """
    pipeline = config.pipeline
    assert pipeline.decode_workers is not None  # noqa: S101 - it has been placed
    assert pipeline.concurrent_batches is not None  # noqa: S101 - likewise
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
        num_cpus=config.num_cpus or 0.0,
    )
