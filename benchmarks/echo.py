"""HTTP alone: an application that reads a body and forgets it, in the place of Darkroom's replica.

Serve and HAProxy are those of serve.env, the routes Starlette's; what is left out is all that Darkroom does.
"""

from typing import Final

from ray import serve
from ray.serve import Application
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deployments.autoscaling import DEMAND
from deployments.http.lingering import BodyOnDemand


async def _echo(request: Request) -> Response:
    return Response(str(len(await request.body())))


APP: Final = Starlette(
    routes=[Route("/predict", _echo, methods=["POST"])],
    middleware=[
        Middleware(BodyOnDemand)
    ],  # without it the middleware of serve.env reads one piece of a body, and no more
)


@serve.deployment(max_ongoing_requests=512)
@serve.ingress(APP)
class Echo:
    """Answers with the number of bytes, and reports as idle to the autoscaler."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Report a demand, as Darkroom's replica does; called by Serve."""
        return {DEMAND: 0.0}


def build_app(_: dict[str, object]) -> Application:
    """Build the application that a benchmark's configuration names instead of `deployments.app:build_app`."""
    return Echo.bind()  # type: ignore[attr-defined,no-any-return]  # by the decorator
