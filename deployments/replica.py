"""The replica: routes, batching, live configuration, health."""

import asyncio
import gc
import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml
from ray import serve
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.admission import check_request, check_wait
from deployments.checks.own_faults import in_words
from deployments.cluster import own_node
from deployments.http.auth import KEYS_VARIABLE, Access, cors
from deployments.http.byte_budget import ByteBudget
from deployments.http.client_address import source_of
from deployments.http.early_refusals import EarlyRefusals
from deployments.http.late_refusals import Late
from deployments.http.lingering import Asking
from deployments.http.middleware import ADMITTED, Front
from deployments.http.parameters import refuse_orders, seconds, timeout_s
from deployments.http.requests import read_images_request
from deployments.http.responses import CLIENT_GONE, NO_CONTENT, UNFORESEEN, answer, document, problem, refusal
from deployments.information import information
from deployments.logs import (
    adopt_loggers,
    log_gone,
    log_left_out,
    log_misconfigured,
    log_no_such_page,
    log_refusal,
    log_unforeseen,
    log_warnings,
)
from deployments.monitoring.last_minute import GONE
from deployments.monitoring.timeline import Timeline, server_timing
from deployments.monitoring.tracing import record_spans
from deployments.monitoring.watch import Watch
from deployments.places import Places
from deployments.request_errors import DeadlineExceeded, Overloaded
from deployments.service_config import LiveConfig, ServiceConfig
from deployments.watchdog import Watchdog
from pipeline.config import PipelineConfig
from pipeline.decode.forkserver import start_forkserver
from pipeline.errors import DarkroomError
from pipeline.records import EncodedImage, Outcome, Rejection

if TYPE_CHECKING:
    from pipeline.engine import Engine

_OPENAPI: Final = Path(__file__).with_name("openapi.yaml")

_SWITCH_INTERVAL_S: Final = 0.0005
"""How long the event loop may keep the interpreter from the device's thread, which needs it anew for every kernel."""

_EXAMINED_AT_ONCE: Final = 32
"""Images whose headers are read before others have the event loop: about 1 ms."""

_COLLECT_AFTER: Final = 10_000
"""New objects after which Python's collector looks for reference cycles; 700 by default.

Requests leave next to no cycles, but those in work are thousands of objects: going through them took 8 % of a replica's
time.
"""

_SHOWN_OF_PATH: Final = 200

Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method) -> Method:
    """Notes the signature of a method down on it; `serve.batch` would work it out anew for every request."""
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method


@serve.ingress()
class Classifier:
    """Image classification over HTTP.

    Args:
        config: fitted to the cluster (`ServiceConfig.fitted`).
        warnings: what an operator should know of that.
    """

    async def __init__(self, config: ServiceConfig, warnings: Sequence[str] = ()) -> None:  # type: ignore[misc]  # Serve awaits it
        adopt_loggers()
        log_warnings(warnings)
        self._warnings, self._live = warnings, LiveConfig()
        self._config = await asyncio.to_thread(_placed, config)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # Taken out: what the replica starts reads strangers' bytes, and needs no keys.
        self._access = Access(config.api_keys_file, os.environ.pop(KEYS_VARIABLE, None))
        log_warnings(self._access.warnings)
        self._watchdog = Watchdog()
        self._budget = ByteBudget(self._live.max_bytes_in_flight)
        self._description = await asyncio.to_thread(_description)
        self._configured = False
        self._refused_user_config: str | None = None
        self._engine = await asyncio.to_thread(self._started_engine)
        self._watch = Watch(lambda: self._engine.stats, lambda: self._budget.held_bytes, self._engine.device)
        self._running = [asyncio.create_task(self._watch.run()), asyncio.create_task(self._watchdog.run())]
        self._around = [Middleware(Asking), *cors(config.cors_origins)]
        self._late = Late(config.max_ongoing_requests // 4)  # the other places are for requests that are answered
        Front.guard = EarlyRefusals(
            lambda body_bytes: self._engine.expected_wait_s(body_bytes=body_bytes),
            lambda: self._live,
            self._access,
            lambda: self._watch.note_end(Overloaded.__name__),
            Places.of_this_replica,
            lambda count: self._budget.give_up_slowest(count, self._live.min_body_bytes_per_s),
            self._around,
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        """The routes; asked for by Serve after the constructor."""
        handlers: Mapping[Any, Any] = {  # for each class of error what takes it
            DarkroomError: self._refuse,
            HTTPException: self._no_such_page,
            ClientDisconnect: self._gone,
            Exception: self._unforeseen,
        }
        app = Starlette(
            routes=[
                *_routes("/predict", self.predict, ["POST", "PUT"]),
                *_routes("/info", self.info),
                *_routes("/stats", self.stats),
                *_routes("/openapi.json", self.openapi),
            ],
            exception_handlers=handlers,
            middleware=self._around,
        )
        app.router.redirect_slashes = False
        return app

    # ---- one request ------------------------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        """POST or PUT /predict."""
        await self._access.check(request.headers.get("authorization"))
        refuse_orders(request)
        limit_s, request.state.stage = timeout_s(request, self._live), "read"
        try:
            async with asyncio.timeout(limit_s):
                return await self._predict(request, limit_s)
        except TimeoutError:
            raise DeadlineExceeded(f"the request is not answered after {limit_s:g} s, the time that it had") from None
        except asyncio.CancelledError:  # by Serve, when the client has closed its connection
            self._note_gone(request.state.stage)
            raise

    async def _predict(self, request: Request, limit_s: float) -> Response:
        began_at = time.perf_counter()
        if ADMITTED not in request.scope:
            self._check_wait((), limit_s)
        with self._budget.hold(source_of(request.scope)) as hold:
            asked = await read_images_request(request, self._live, self._config.pipeline.max_top_k, hold)
            read_at, request.state.stage = time.perf_counter(), "queue"
            images = await self._examined(asked.images, limit_s - (read_at - began_at))
            outcomes = await self._infer(images)
        if asked.many:  # a single one is logged as it is refused
            for position, outcome in enumerate(outcomes):
                if isinstance(outcome, Rejection):
                    log_refusal(outcome.error, position)
        self._watch.note_images(outcomes)
        response = answer(self._config.pipeline.model, outcomes, many=asked.many, top_k=asked.top_k)
        timings = [outcome.timings for outcome in outcomes if outcome.timings.ended_at]
        timeline = Timeline(began_at, read_at, time.perf_counter(), timings)
        stages_s, total_s = timeline.longest(), timeline.total_s
        response.headers["Server-Timing"] = server_timing(stages_s, total_s)
        self._watch.note_answer(stages_s, total_s)
        record_spans(timeline)
        return response

    async def _examined(
        self, images: Sequence[EncodedImage | Rejection], limit_s: float
    ) -> Sequence[EncodedImage | Rejection]:
        """Their prices known, and those rejected that their headers refuse.

        Some images at a time: what will be refused as it would wait too long should not keep the event loop until then.

        Raises:
            RequestTooCostly, Overloaded: why they are not taken on.
        """
        examined: list[EncodedImage | Rejection] = []
        for first in range(0, len(images), _EXAMINED_AT_ONCE):
            if first:
                await asyncio.sleep(0)
            examined += self._engine.examine(images[first : first + _EXAMINED_AT_ONCE])
            prices_s = (image.price_s or 0.0 for image in examined if isinstance(image, EncodedImage))
            check_request(prices_s, self._live.max_request_work_s)
            self._check_wait(examined, limit_s)
        return examined

    def _check_wait(self, images: Sequence[EncodedImage | Rejection], limit_s: float) -> None:
        check_wait(self._engine.expected_wait_s(images), self._live.max_wait_s, limit_s)

    async def _infer(self, images: Sequence[EncodedImage | Rejection]) -> list[Outcome]:
        """One outcome an image, in order: what came in as a rejection stays one."""
        future = await self._gather([image for image in images if isinstance(image, EncodedImage)])
        outcomes: list[Outcome] = await asyncio.wrap_future(future)
        inferred = iter(outcomes)
        return [image if isinstance(image, Rejection) else next(inferred) for image in images]

    @serve.batch
    @_signed
    async def _gather(self, requests: list[list[EncodedImage]]) -> list[Future[list[Outcome]]]:
        """Many requests -> the engine, in one hand-over.

        The handler returns futures and never waits. While a handler waits, Serve seals whatever arrives into small
        batches that can never merge (it seals before it holds a permit), and one slow image keeps the answers of its
        whole batch. Here each request waits for its own images alone, and batches form again where work waits: at
        the workers and at the device.
        """
        return self._engine.submit(requests)

    # ---- what else it answers ---------------------------------------------------------------------------------------

    async def info(self, request: Request) -> Response:
        """GET /info: what is served, and the settings and limits in force."""
        await self._access.check(request.headers.get("authorization"))
        state = {
            "warnings": [*self._warnings, *self._access.warnings],
            "refused_user_config": self._refused_user_config,
            "held_bytes": self._budget.held_bytes,
        }
        return document(information(self._engine, self._config, self._live, self._watch.requests) | state)

    async def stats(self, request: Request) -> Response:
        """GET /stats: what the last minute, or `?seconds=` of it, was like in this replica."""
        await self._access.check(request.headers.get("authorization"))
        return document(
            {"replica": serve.get_replica_context().replica_id.unique_id, **self._watch.stats(seconds(request))}
        )

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json; without a key, as it is the same everywhere."""
        return Response(self._description, media_type="application/json")

    async def _refuse(self, request: Request, error: DarkroomError) -> Response:
        log_refusal(error)
        self._note_end(request, type(error).__name__)
        if isinstance(error, Overloaded):
            error.__traceback__ = None  # its frames would keep the images meanwhile
            await self._late.hold(error, timeout_s(request, self._live), request.scope, request.receive)
        return refusal(error, _request_id(request))

    async def _no_such_page(self, request: Request, error: HTTPException) -> Response:
        if request.method == "OPTIONS" and error.headers:  # the path is known, and OPTIONS asks what it takes
            return Response(status_code=NO_CONTENT, headers=error.headers)
        page = f"{request.method} {request.scope['path'][:_SHOWN_OF_PATH]}"  # of its URL the query may be no UTF-8
        log_no_such_page(error, error.status_code, page)
        detail = f"{page}: GET /openapi.json says what is served"
        return problem(error.status_code, error.detail, detail, _request_id(request), error.headers)

    async def _gone(self, _request: Request, _error: ClientDisconnect) -> Response:
        self._note_gone("read")
        return Response(status_code=CLIENT_GONE)

    def _note_end(self, request: Request, outcome: str) -> None:
        """Counts what asked for a prediction, and nothing else."""
        if request.scope.get("endpoint") == self.predict:
            self._watch.note_end(outcome)

    def _note_gone(self, stage: str) -> None:
        log_gone(stage)
        self._watch.note_end(GONE)

    async def _unforeseen(self, request: Request, error: Exception) -> Response:
        log_unforeseen(error)
        self._note_end(request, type(error).__name__)
        detail = "the request could not be answered; the log says why, under this request_id"
        return problem(UNFORESEEN, "Internal server error", detail, _request_id(request))

    # ---- life -------------------------------------------------------------------------------------------------------

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
        self._live, self._configured, self._refused_user_config = live, True, None
        self._engine.limits = live
        self._budget.max_bytes = live.max_bytes_in_flight
        self._gather.set_max_batch_size(live.max_batch_size)  # type: ignore[attr-defined]  # serve.batch adds both
        self._gather.set_batch_wait_timeout_s(live.batch_wait_s)  # type: ignore[attr-defined]

    async def check_health(self) -> None:
        """Raises what keeps the engine from answering; Serve replaces the replica when it has done so three times."""
        self._engine.check()

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
        gc.set_threshold(_COLLECT_AFTER)
        return engine

    def _engine_of(self, config: PipelineConfig) -> "Engine":
        """Imported here: torch takes seconds, and Serve imports this module where it only looks at the application."""
        from pipeline.engine import Engine

        return Engine(config)

    async def __del__(self) -> None:
        """Ends the workers; called by Serve after the last request."""
        if hasattr(self, "_running"):
            for task in self._running:
                task.cancel()
            self._watchdog.close()
            Front.guard = None
            log_left_out(after_s=0.0)
        if hasattr(self, "_engine"):
            await asyncio.to_thread(self._engine.close)


def _placed(config: ServiceConfig) -> ServiceConfig:
    """The configuration with all sizes settled; Ray is asked for the replica's node only where it has to be."""
    return config if config.is_placed else config.placed(own_node())


def _routes(path: str, endpoint: Callable[[Request], Any], methods: list[str] | None = None) -> list[Route]:
    """The path, also with a slash at its end: a redirect would name the wrong scheme behind TLS, or not be followed."""
    return [Route(path, endpoint, methods=methods), Route(f"{path}/", endpoint, methods=methods)]


def _description() -> bytes:
    """The description of the interface as JSON; reading YAML takes 25 ms."""
    return bytes(document(yaml.safe_load(_OPENAPI.read_text("utf-8"))).body)


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")  # given by the client, or else by Serve
