"""POST and PUT /predict, Darkroom's own protocol: one or many images in, the model's result for each out."""

from collections.abc import Sequence
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from deployments.http.body import read_images
from deployments.http.client_address import source_of
from deployments.http.late_refusals import body_bytes
from deployments.http.middleware import ADMITTED
from deployments.http.parameters import head_parameters, refuse_orders, timeout_s
from deployments.http.responses import answer
from deployments.logs import log_refused_images
from deployments.monitoring.timeline import server_timing
from deployments.service import Deadline, InferenceService
from deployments.service_config import ServiceConfig


class Predict:
    """Answers requests for predictions.

    Args:
        service: runs inference.
        config: settings of the replica.
    """

    PATH: ClassVar[str] = "/predict"
    METHODS: ClassVar[Sequence[str]] = ("POST", "PUT")

    def __init__(self, service: InferenceService, config: ServiceConfig) -> None:
        self._service = service
        self._model = config.pipeline.model

    async def handle(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            DarkroomError: the request is refused.
        """
        service, live = self._service, self._service.live
        refuse_orders(request)
        deadline = Deadline(timeout_s(request, live))
        if ADMITTED not in request.scope:
            service.admission.check(body_bytes(request.headers), deadline.limit_s)
        known = service.head_parameters
        parameters = head_parameters(request, live, known)
        with service.hold(source_of(request.scope)) as hold:
            sent = await read_images(request, live, hold, deadline, known)
            if sent.fields:
                parameters = head_parameters(request, live, known, sent.fields)
            inference = await service.infer(sent.images, deadline)
        if sent.many:  # the refusal of a single image is logged with its request
            log_refused_images(inference.outcomes)
        response = await answer(self._model, inference.outcomes, many=sent.many, parameters=parameters)
        response.headers["Server-Timing"] = server_timing(*service.note_answered(inference))
        return response
