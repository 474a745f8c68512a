"""A stand-in for Serve that reads ahead and counts places in the same way, with an application behind it."""

import asyncio
import threading

from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from deployments.http.lingering import BodyOnDemand

HOOK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"


class CountedPlaces:
    """Stands in for Serve: reads each body before the application does, and counts the requests inside."""

    def __init__(self) -> None:
        self.taken = self.dropped = 0
        self.may_answer = threading.Event()
        self._app = Starlette(
            routes=[
                Route("/read", self.read, methods=["POST"]),
                Route("/refuse", self.refuse, methods=["POST"]),
                Route("/stop", self.stop, methods=["POST"]),
                Route("/wait", self.wait, methods=["POST"]),
                Route("/plain", self.plain),
                Route("/-/healthz", self.headers),  # HAProxy's health check
                Route("/headers", self.headers),
            ],
            middleware=[Middleware(BodyOnDemand)],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["path"] == "/raise":
            raise ValueError("not for clients to see")

        proxy = ASGIDIReceiveProxy(scope, receive, asyncio.get_running_loop())
        reading = proxy.fetch_until_disconnect_task()
        answering = asyncio.create_task(self._app(scope, proxy, send))
        self.taken += 1
        try:
            await asyncio.wait([reading, answering], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():  # the client has gone
                self.dropped += 1
                answering.cancel()
        finally:
            self.taken -= 1
            reading.cancel()

    async def wait(self, _: Request) -> Response:
        """Answer when the test allows it."""
        while not self.may_answer.is_set():  # noqa: ASYNC110  set by another thread
            await asyncio.sleep(0.01)
        return JSONResponse("done")

    async def read(self, request: Request) -> Response:
        """Answer with the length of the body."""
        return JSONResponse(len(await request.body()))

    async def refuse(self, _: Request) -> Response:
        """Refuse without reading the body."""
        return Response(status_code=415)

    async def stop(self, request: Request) -> Response:
        """Read only the first piece of a body."""
        async for _ in request.stream():
            break
        return Response(status_code=408)

    async def plain(self, _: Request) -> Response:
        """Answer an error in the form that Serve gives it."""
        return PlainTextResponse("Request dropped due to backpressure", 503, {"Retry-After": "3"})

    async def headers(self, request: Request) -> Response:
        """Answer with the headers that arrived."""
        return JSONResponse(request.headers.items())
