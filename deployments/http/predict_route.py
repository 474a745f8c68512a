"""POST and PUT /predict, Darkroom's own protocol: one image or many in, their best classes out."""

from collections.abc import Sequence
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from deployments.http.body import read_images
from deployments.http.client_address import source_of
from deployments.http.late_refusals import body_bytes
from deployments.http.middleware import ADMITTED
from deployments.http.parameters import refuse_orders, timeout_s, top_k
from deployments.http.responses import answer
from deployments.logs import log_refused_images
from deployments.monitoring.timeline import server_timing
from deployments.service import Deadline, InferenceService
from deployments.service_config import ServiceConfig


class Predict:
    """Answers requests for predictions.

    Args:
        service: infers.
        config: of the replica.
    """

    PATH: ClassVar[str] = "/predict"
    METHODS: ClassVar[Sequence[str]] = ("POST", "PUT")

    def __init__(self, service: InferenceService, config: ServiceConfig) -> None:
        self._service = service
        self._model, self._max_top_k = config.pipeline.model, config.pipeline.max_top_k

    async def handle(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            DarkroomError: why it is refused.
        """
        service, live = self._service, self._service.live
        refuse_orders(request)
        deadline = Deadline(timeout_s(request, live))
        if ADMITTED not in request.scope:
            service.admission.check(body_bytes(request.headers), deadline.limit_s)
        classes = top_k(request, live, self._max_top_k)
        with service.hold(source_of(request.scope)) as hold:
            sent = await read_images(request, live, hold, deadline)
            inference = await service.infer(sent.images, deadline)
        if sent.many:  # a single one is logged as the request is refused
            log_refused_images(inference.outcomes)
        response = answer(self._model, inference.outcomes, many=sent.many, top_k=classes)
        response.headers["Server-Timing"] = server_timing(*service.note_answered(inference))
        return response
