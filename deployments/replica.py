"""The replica: what Ray Serve starts, configures, watches and stops, and where it gathers requests into batches."""

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
from deployments.checks.own_faults import in_words
from deployments.cluster import own_node
from deployments.http.application import HttpApplication
from deployments.http.auth import KEYS_VARIABLE, Access
from deployments.http.middleware import RequestGuard
from deployments.information import information
from deployments.logs import adopt_loggers, log_left_out, log_misconfigured, log_warnings
from deployments.monitoring.watch import Watch
from deployments.service import InferenceService
from deployments.service_config import LiveConfig, ServiceConfig
from deployments.watchdog import Watchdog
from pipeline.config import PipelineConfig
from pipeline.decode.forkserver import start_forkserver
from pipeline.records import EncodedImage, Outcome

if TYPE_CHECKING:
    from pipeline.engine import Engine

_SWITCH_INTERVAL_S: Final = 0.0005
"""Longest time that the event loop keeps the interpreter from the device's thread, which needs it for every kernel."""

_GC_AFTER_OBJECTS: Final = 10_000
"""New objects after which Python's collector looks for reference cycles; 700 by default.

Requests leave next to no cycles, but those in work are thousands of objects: going through them took 8 % of a replica's
time.
"""

Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method) -> Method:
    """Notes the signature of a method down on it; `serve.batch` would work it out anew for every request."""
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method


@serve.ingress()
class Replica:
    """One replica of the service: an engine, and the HTTP interface to it.

    Args:
        config: fitted to the cluster (`ServiceConfig.fitted`).
        warnings: on how it was fitted, for the operator.
    """

    async def __init__(self, config: ServiceConfig, warnings: Sequence[str] = ()) -> None:  # type: ignore[misc]  # Serve awaits it
        adopt_loggers()
        log_warnings(warnings)
        self._warnings = warnings
        self._config = await asyncio.to_thread(_placed, config)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # Taken out: what the replica starts reads strangers' bytes, and needs no keys.
        self._access = Access(config.api_keys_file, os.environ.pop(KEYS_VARIABLE, None))
        log_warnings(self._access.warnings)
        self._watchdog = Watchdog()
        self._configured = False
        self._refused_user_config: str | None = None
        self._engine = await asyncio.to_thread(self._started_engine)
        self._watch = Watch(lambda: self._engine.stats, lambda: self._service.held_bytes, self._engine.device_kind)
        self._service = InferenceService(self._engine, self._gather, self._watch, _places)
        self._running = [asyncio.create_task(self._watch.run()), asyncio.create_task(self._watchdog.run())]
        self._http = HttpApplication(self._service, self._config, self._access, self._info, self._stats)
        RequestGuard.guard = self._http.early_refusals

    def __serve_build_asgi_app__(self) -> Starlette:
        """Builds the application that answers HTTP; called by Serve after the constructor."""
        return self._http.asgi()

    @serve.batch
    @_signed
    async def _gather(self, requests: list[list[EncodedImage]]) -> list[Future[list[Outcome]]]:
        """Hands the images of many requests to the engine at once.

        The handler returns futures and never waits. While a handler waits, Serve seals whatever arrives into small
        batches that can never merge (it seals before it holds a permit), and one slow image keeps the answers of its
        whole batch. Here each request waits for its own images alone, and batches form again where work waits: at
        the workers and at the device.
        """
        return self._engine.submit(requests)

    async def reconfigure(self, user_config: Mapping[str, Any] | None, rank: object) -> None:  # noqa: ARG002
        """Applies `user_config` without a restart. A bad one leaves the old one in force.

        Serve replaces a replica whose `reconfigure` raises, so only a replica that is starting raises here: it has no
        old settings to keep. Because of the parameter `rank`, Serve calls this also where there is no user_config.

        Raises:
            ValueError: at the start, what is wrong with `user_config`.
        """
        try:
            live = LiveConfig.model_validate(user_config or {})
            self._config.check_live(live)
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
        """Raises what keeps the engine from answering; Serve replaces the replica when it has done so three times."""
        self._engine.check()

    async def __del__(self) -> None:
        """Ends the workers; called by Serve after the last request."""
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
        start_forkserver()  # it imports torch too, meanwhile
        gc.disable()  # what is imported stays: to look through it again and again takes a seventh of the time
        try:
            engine = self._engine_of(self._config.pipeline)
            engine.start()
        finally:
            gc.enable()
        gc.collect()
        gc.freeze()  # all that stays: torch alone has more objects than a collection can look at without a pause
        gc.set_threshold(_GC_AFTER_OBJECTS)
        return engine

    def _engine_of(self, config: PipelineConfig) -> "Engine":
        """Imported here: torch takes seconds, and Serve imports this module where it only looks at the application."""
        from pipeline.engine import Engine

        return Engine(config)

    # ---- documents of GET /info and GET /stats ----------------------------------------------------------------------

    def _info(self) -> Mapping[str, Any]:
        state = {
            "warnings": [*self._warnings, *self._access.warnings],
            "refused_user_config": self._refused_user_config,
            "held_bytes": self._service.held_bytes,
        }
        return information(self._engine, self._config, self._service.live, self._watch.requests) | state

    def _stats(self, seconds: int) -> Mapping[str, Any]:
        return {"replica": serve.get_replica_context().replica_id.unique_id, **self._watch.stats(seconds)}


def _places() -> Places:
    """Reads the places of the replica in this process, as they are set now."""
    config = serve.get_replica_context()._deployment_config  # Serve tells them nowhere else
    return Places(config.max_ongoing_requests, config.max_queued_requests)


def _placed(config: ServiceConfig) -> ServiceConfig:
    """The configuration with all sizes settled; Ray is asked for the replica's node only where it has to be."""
    return config if config.is_placed else config.placed(own_node())
