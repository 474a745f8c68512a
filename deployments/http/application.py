"""The HTTP interface of a replica: routes, API keys, CORS and error responses."""

import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.http.auth import Access, RequireKey, cors
from deployments.http.early_refusals import MAX_HELD_REFUSALS, EarlyRefusals
from deployments.http.lingering import BodyOnDemand
from deployments.http.openapi import openapi_document
from deployments.http.parameters import seconds
from deployments.http.predict_route import Predict
from deployments.http.refusals import Refusals
from deployments.http.responses import document
from deployments.service import InferenceService
from deployments.service_config import ServiceConfig

Endpoint = Callable[[Request], Awaitable[Response]]


class HttpProtocol(Protocol):
    """Answers requests for inference in one form.

    Args:
        service: runs inference.
        config: settings of the replica.

    Attributes:
        PATH: end of the URL path for inference requests.
        METHODS: HTTP methods, POST or PUT.
    """

    PATH: ClassVar[str]
    METHODS: ClassVar[Sequence[str]]

    def __init__(self, service: InferenceService, config: ServiceConfig) -> None: ...

    async def handle(self, request: Request) -> Response:
        """Answer one request; an exception becomes a problem document (RFC 9457)."""


PROTOCOLS: Final[tuple[type[HttpProtocol], ...]] = (Predict,)
"""Protocols that are served: requests need an API key, are refused under overload, and are counted."""


class HttpApplication:
    """Answers HTTP requests with an `InferenceService`.

    Args:
        service: runs inference.
        config: settings of the replica.
        access: checks API keys.
        info: makes the document of GET /info.
        stats: makes the document of GET /stats for a number of seconds.
        check: raises an error if the engine cannot answer.

    Attributes:
        early_refusals: guard that `RequestGuard` asks about each request before Serve sees the request.
    """

    def __init__(
        self,
        service: InferenceService,
        config: ServiceConfig,
        access: Access,
        info: Callable[[], Mapping[str, Any]],
        stats: Callable[[int], Mapping[str, Any]],
        check: Callable[[], None],
    ) -> None:
        self._service, self._config, self._info, self._stats, self._check = service, config, info, stats, check
        self._require_key = Middleware(RequireKey, access)
        self._around = [Middleware(BodyOnDemand), *cors(config.cors_origins)]
        self._description = openapi_document(service.head.parameters, service.head.schema)
        paths = [protocol.PATH for protocol in PROTOCOLS]
        # Delayed refusals take at most a quarter of the places: the others are for requests that are answered.
        self._refusals = Refusals(service, paths, config.max_ongoing_requests // 4)
        early = Refusals(service, paths, MAX_HELD_REFUSALS)
        self.early_refusals = EarlyRefusals(service, early, self._require_key, self._around)

    def asgi(self) -> Starlette:
        """Build the ASGI application that Serve runs."""
        inference = [
            self._with_key(protocol.PATH, protocol(self._service, self._config).handle, protocol.METHODS)
            for protocol in PROTOCOLS
        ]
        app = Starlette(
            routes=[
                *itertools.chain(*inference),
                *self._with_key("/info", self._get_info),
                *self._with_key("/stats", self._get_stats),
                *_routes("/healthz", self._get_health),
                *_routes("/openapi.json", self._get_openapi),
            ],
            exception_handlers=self._refusals.handlers,
            middleware=self._around,
        )
        app.router.redirect_slashes = False
        return app

    def _with_key(self, path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",)) -> list[Route]:
        return _routes(path, endpoint, methods, [self._require_key])

    async def _get_info(self, _: Request) -> Response:
        """GET /info: the served model, and the settings and limits in force."""
        return document(self._info())

    async def _get_stats(self, request: Request) -> Response:
        """GET /stats: figures of this replica for the last minute, or for the last `?seconds=`."""
        return document(self._stats(seconds(request)))

    async def _get_health(self, _: Request) -> Response:
        """GET /healthz: 200 while this replica can answer; needs no key, so that a balancer can ask for it.

        Serve's own /-/healthz is 200 while any application answers.
        """
        self._check()
        return document({"status": "ok"})

    async def _get_openapi(self, request: Request) -> Response:
        """GET /openapi.json; needs no key, as the document tells only the kind of answers, and their prefix."""
        return document({**self._description, "servers": [{"url": request.scope.get("root_path") or "/"}]})


def _routes(
    path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",), middleware: Sequence[Middleware] = ()
) -> list[Route]:
    """Make routes for a path with and without a final slash: a redirect would name the wrong scheme behind TLS."""
    return [Route(each, endpoint, methods=methods, middleware=middleware) for each in (path, f"{path}/")]
