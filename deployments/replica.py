"""The replica: Ray Serve starts, configures, checks and stops it, and gathers requests into batches for it."""

import asyncio
import gc
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ray import serve
from starlette.applications import Starlette

from deployments.admission import Places
from deployments.autoscaling import CPUS, DEMAND, GPUS
from deployments.checks.own_faults import in_words
from deployments.cluster import error_log, own_node, reserved, run_folder
from deployments.http.application import HttpApplication
from deployments.http.auth import KEYS_VARIABLE, Access
from deployments.http.middleware import RequestGuard
from deployments.information import information
from deployments.live_config import LiveConfig
from deployments.logs import adopt_loggers, log_left_out, log_misconfigured, log_warnings
from deployments.monitoring.demand import DEMAND_OVER_S
from deployments.monitoring.watch import Watch
from deployments.open_files import raise_open_files_limit
from deployments.service import InferenceService
from deployments.service_config import ServiceConfig
from deployments.watchdog import Watchdog
from pipeline.config import PipelineConfig
from pipeline.decode.forkserver import start_forkserver
from pipeline.records import EncodedImage, Outcome

if TYPE_CHECKING:
    from pipeline.engine import Engine

_SWITCH_INTERVAL_S: Final = 0.0005
"""Longest time that the event loop holds the interpreter lock: the device's thread needs the lock for every kernel."""

_GC_AFTER_OBJECTS: Final = 10_000
"""New objects after which Python's garbage collector looks for reference cycles; 700 by default.

Requests leave next to no cycles, but requests in work hold thousands of objects. With the default, 8 % of a replica's
time went into looking at them.
"""

Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method) -> Method:
    """Store the signature of a method on it; `serve.batch` would otherwise compute it for every request."""
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method


@serve.ingress()
class Replica:
    """One replica of the service: an engine, and the HTTP interface to it.

    Args:
        config: settings, fitted to the cluster (`ServiceConfig.fitted`).
        warnings: for the operator, about the fitted sizes.
    """

    async def __init__(self, config: ServiceConfig, warnings: Sequence[str] = ()) -> None:  # type: ignore[misc]  # Serve awaits it
        adopt_loggers()
        raise_open_files_limit()
        log_warnings(warnings)
        self._warnings = warnings
        self._config = await asyncio.to_thread(_placed, config)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # Removed from the environment: the decode workers read untrusted bytes, and need no keys.
        self._access = Access(config.api_keys_file, os.environ.pop(KEYS_VARIABLE, None))
        log_warnings(self._access.warnings)
        self._watchdog = Watchdog(log=error_log())
        self._configured = False
        self._refused_user_config: str | None = None
        self._engine = await asyncio.to_thread(self._started_engine)
        self._watch = Watch(
            lambda: self._engine.stats,
            lambda: self._service.held_bytes,
            self._engine.expected_wait_s,
            self._engine.device_kind,
            self._config.num_cpus or 0.0,
        )
        self._service = InferenceService(self._engine, self._gather, self._watch, _places)
        self._running = [asyncio.create_task(self._watch.run()), asyncio.create_task(self._watchdog.run())]
        self._http = HttpApplication(
            self._service, self._config, self._access, self._info, self._stats, self._engine.check
        )
        RequestGuard.guard = self._http.early_refusals

    def __serve_build_asgi_app__(self) -> Starlette:
        """Build the application that answers HTTP; called by Serve after the constructor."""
        return self._http.asgi()

    @serve.batch
    @_signed
    async def _gather(self, requests: list[list[EncodedImage]]) -> list[Future[list[Outcome]]]:
        """Hand the images of many requests to the engine at once.

        The handler returns futures and never waits. If a handler waited, Serve would close the requests that arrive
        meanwhile into small batches that can never merge (it closes a batch before it may run it), and one slow image
        would delay the answers of its whole batch. Here each request waits for its own images alone, and batches form
        again where work queues: before the workers and before the device.
        """
        return self._engine.submit(requests)

    async def reconfigure(self, user_config: Mapping[str, Any] | None, rank: object) -> None:  # noqa: ARG002
        """Apply `user_config` without a restart. If it is invalid, the old one stays in force.

        Serve replaces a replica whose `reconfigure` raises, so only a replica that is starting raises here: it has no
        old settings to keep. Because of the parameter `rank`, Serve calls this method even without a user_config.

        Raises:
            ValueError: `user_config` is invalid, at the start.
        """
        try:
            live = LiveConfig.model_validate(user_config or {})
            self._config.check_live(live)
            head = self._service.head
            if faults := live.head_faults(head.parameters, type(head).__name__):
                raise ValueError("; ".join(faults))
        except ValueError as error:
            self._refused_user_config = in_words(error)
            if not self._configured:
                raise ValueError(f"user_config: {self._refused_user_config}") from None
            log_misconfigured("user_config refused, the old one stays in force", self._refused_user_config)
            return
        self._service.live, self._configured, self._refused_user_config = live, True, None
        self._gather.set_max_batch_size(live.max_batch_size)  # type: ignore[attr-defined]  # serve.batch adds both
        self._gather.set_batch_wait_timeout_s(live.batch_window_s)  # type: ignore[attr-defined]

    async def check_health(self) -> None:
        """Raise an error if the engine cannot answer; Serve replaces the replica after three such errors."""
        self._engine.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Report to the autoscaler; called by Serve several times in each `look_back_period_s`."""
        own = reserved()  # `ray_actor_options` of the configuration may differ from `args`
        return {DEMAND: self._watch.stats(DEMAND_OVER_S)["demand"], CPUS: own.cpus, GPUS: own.gpus}

    async def __del__(self) -> None:
        """Stop the tasks, the watchdog and the engine; called by Serve after the last request."""
        if hasattr(self, "_running"):
            for task in self._running:
                task.cancel()
            self._watchdog.close()
            RequestGuard.guard = None
            log_left_out(after_s=0.0)
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.close)

    # ---- start ------------------------------------------------------------------------------------------------------

    def _started_engine(self) -> "Engine":
        start_forkserver()  # imports torch in its own process at the same time
        gc.disable()  # imported objects stay; collecting again and again took a seventh of the start
        try:
            engine = self._engine_of(self._config.pipeline)
            engine.start()
        finally:
            gc.enable()
        gc.collect()
        gc.freeze()  # these objects stay: torch alone has so many that looking at them would cause a pause
        gc.set_threshold(_GC_AFTER_OBJECTS)
        return engine

    def _engine_of(self, config: PipelineConfig) -> "Engine":
        """Make the engine. Imports it here: torch takes seconds, and Serve imports this module also to read the app."""
        from pipeline.engine import Engine

        return Engine(config, speeds=run_folder())

    # ---- documents of GET /info and GET /stats ----------------------------------------------------------------------

    def _info(self) -> Mapping[str, Any]:
        state = {
            "warnings": [*self._warnings, *self._access.warnings],
            "refused_user_config": self._refused_user_config,
            "held_bytes": self._service.held_bytes,
        }
        # The labels come last: they are a thousand lines.
        return (
            information(self._engine, self._config, self._service.live, self._watch.requests)
            | state
            | {"labels": self._engine.labels}
        )

    def _stats(self, seconds: int) -> Mapping[str, Any]:
        return {"replica": serve.get_replica_context().replica_id.unique_id, **self._watch.stats(seconds)}


def _places() -> Places:
    """Read the current limits on requests in the replica of this process."""
    config = serve.get_replica_context()._deployment_config  # Serve offers no public access
    return Places(config.max_ongoing_requests, config.max_queued_requests)


def _placed(config: ServiceConfig) -> ServiceConfig:
    """Settle all sizes of the configuration; ask Ray for the replica's node only if needed."""
    return config if config.is_placed else config.placed(own_node())
