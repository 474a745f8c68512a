"""The service with a route that makes a replica hang, which no signal from outside can cause."""

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from ray.serve import Application
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.app import sized
from deployments.replica import Replica
from deployments.service_config import ServiceConfig

_FOR_S: Final = 600

EVENT_LOOP, INTERPRETER, DEVICE = "event-loop", "interpreter", "device"
"""Parts that hang on POST /hang/PART: the event loop alone, all threads, or the device's threads."""


class HangingReplica(Replica):
    """The whole replica, with one more route."""

    def __serve_build_asgi_app__(self) -> Starlette:
        """Return the application with that route."""
        app = super().__serve_build_asgi_app__()
        app.router.routes.append(Route("/hang/{part}", self._hang, methods=["POST"]))
        return app

    async def _hang(self, request: Request) -> Response:
        acts: Mapping[str, Callable[[], object]] = {
            EVENT_LOOP: lambda: time.sleep(_FOR_S),
            INTERPRETER: lambda: ctypes.PyDLL(None).sleep(_FOR_S),  # holds the interpreter's lock
            DEVICE: lambda: setattr(self._engine._compute._device, "launch", _hang_for_ever),
        }
        acts[request.path_params["part"]]()
        return Response()


def _hang_for_ever(_: object) -> None:
    threading.Event().wait()


def build_app(config: ServiceConfig) -> Application:
    """Build the application; a configuration names it instead of `deployments.app:build_app`."""
    return sized(config, HangingReplica)
