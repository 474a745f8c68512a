"""Responses to requests that are refused or fail: logged, counted, and sent as problem documents."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from deployments.http.late_refusals import LateRefusals
from deployments.http.parameters import timeout_s
from deployments.http.responses import problem, refusal
from deployments.http.statuses import CLIENT_GONE, INTERNAL_ERROR, NO_CONTENT
from deployments.logs import log_no_such_page, log_refusal, log_unforeseen
from deployments.request_errors import Overloaded
from deployments.service import InferenceService
from pipeline.errors import DarkroomError

_SHOWN_OF_PATH: Final = 200


class Refusals:
    """Turns errors into responses.

    Args:
        service: counts refused inference requests.
        inference_paths: ends of the paths that serve inference.
        most_late: limit on refusals for overload that are delayed at a time (`LateRefusals`).
    """

    def __init__(self, service: InferenceService, inference_paths: Sequence[str], most_late: int) -> None:
        self._service, self._paths, self._late = service, tuple(inference_paths), LateRefusals(most_late)

    @property
    def handlers(self) -> Mapping[Any, Any]:
        """Exception handlers for Starlette, by class of error."""
        return {
            DarkroomError: self._refuse,
            HTTPException: self._no_such_page,
            ClientDisconnect: self._gone,
            Exception: self._unforeseen,
        }

    def asks_for_inference(self, scope: Scope) -> bool:
        """Return whether a request is for an inference path; the path may end with a slash."""
        return scope["method"] in ("POST", "PUT") and scope["path"].rstrip("/").endswith(self._paths)

    async def settle(
        self, error: DarkroomError, limit_s: float, scope: Scope, receive: Receive, request_id: str = ""
    ) -> bool:
        """Log an error, and delay the response to an overloaded client.

        Args:
            error: the reason.
            limit_s: time limit of the request in seconds; the delay takes half of it at most.
            scope: ASGI scope of the request.
            receive: returns the parts of its body, which are dropped meanwhile.
            request_id: for the log, if Serve does not know it.

        Returns:
            True if the client is still connected.
        """
        log_refusal(error, request_id=request_id)
        if not isinstance(error, Overloaded):
            return True
        error.__traceback__ = None  # its frames would keep the images in memory during the delay
        return await self._late.hold(error, limit_s, scope, receive)

    async def _refuse(self, request: Request, error: DarkroomError) -> Response:
        self._count(request.scope, error)
        limit_s = timeout_s(request, self._service.live) if isinstance(error, Overloaded) else 0.0
        await self.settle(error, limit_s, request.scope, request.receive)
        return refusal(error, _request_id(request))

    async def _no_such_page(self, request: Request, error: HTTPException) -> Response:
        if request.method == "OPTIONS" and error.headers:  # the path is known, and OPTIONS asks for its methods
            return Response(status_code=NO_CONTENT, headers=error.headers)
        page = f"{request.method} {request.scope['path'][:_SHOWN_OF_PATH]}"  # without the query, which may be no UTF-8
        log_no_such_page(error, error.status_code, page)
        detail = f"{page}: GET {request.scope.get('root_path', '')}/openapi.json lists what is served"
        return problem(error.status_code, error.detail, detail, _request_id(request), error.headers)

    async def _gone(self, _request: Request, _error: ClientDisconnect) -> Response:
        self._service.note_gone("read")
        return Response(status_code=CLIENT_GONE)

    async def _unforeseen(self, request: Request, error: Exception) -> Response:
        log_unforeseen(error)
        self._count(request.scope, error)
        detail = "the request could not be answered; the log has the reason, under this request_id"
        return problem(INTERNAL_ERROR, "Internal server error", detail, _request_id(request))

    def _count(self, scope: Scope, error: Exception) -> None:
        if self.asks_for_inference(scope):
            self._service.note_refused(error)


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")  # given by the client, or else by Serve
