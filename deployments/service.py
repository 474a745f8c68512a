"""The service behind every protocol: admission, deadline, inference, timings. Knows neither HTTP nor Ray Serve.

The adapter of a protocol, such as `deployments/http/predict_route.py`, does this for each request:

    deadline = Deadline(seconds that the client waits)
    service.admission.check(body_bytes, deadline.left_s)  # before the body is read
    with service.hold(client address) as hold:            # counts the bytes of the body until the block ends
        inference = await service.infer(images, deadline)
    answer = ...                                          # one outcome an image, in order
    stages_s, total_s = service.note_answered(inference)

Every refusal is raised as a `DarkroomError`; the adapter answers with it and calls `note_refused`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from deployments.admission import UNLIMITED, Admission, Places, check_request, check_wait
from deployments.live_config import LiveConfig
from deployments.logs import log_gone
from deployments.memory_budget import Hold, MemoryBudget
from deployments.monitoring.last_minute import GONE_OUTCOME
from deployments.monitoring.timeline import Timeline
from deployments.monitoring.tracing import record_spans
from deployments.request_errors import DeadlineExceeded
from pipeline.head_parameters import Parameter
from pipeline.records import EncodedImage, Outcome, Rejection

if TYPE_CHECKING:
    from pipeline.engine import Engine  # not at run time: loading torch takes seconds
    from pipeline.model.served import Head

_IMAGES_EXAMINED_AT_ONCE: Final = 32
"""Images whose headers are read before the event loop runs other tasks: about 1 ms."""

Submit = Callable[[list[EncodedImage]], Awaitable[Future[list[Outcome]]]]
"""Hands the images of one request to the engine; the future has one outcome for each image, in order."""


class Recorder(Protocol):
    """Counts images and requests that end."""

    def note_images(self, outcomes: Sequence[Outcome]) -> None:
        """Note the outcomes of a request's images."""

    def note_answer(self, stages_s: tuple[float, ...], took_s: float) -> None:
        """Note a request that was answered, with its seconds in each of `STAGES` and in total."""

    def note_end(self, outcome: str) -> None:
        """Note a request that ended otherwise: the class name of its error, or `GONE_OUTCOME`."""


class Deadline:
    """Time limit of one request, counted from its creation.

    Args:
        limit_s: the time limit in seconds.

    Attributes:
        began_at: time of creation, by `time.perf_counter`.
    """

    __slots__ = ("began_at", "limit_s")

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.began_at = time.perf_counter()

    @property
    def left_s(self) -> float:
        """Seconds left; negative after the limit."""
        return self.limit_s - (time.perf_counter() - self.began_at)

    def exceeded(self) -> DeadlineExceeded:
        """Make the error of a request that has not been answered in time."""
        return DeadlineExceeded(f"the request was not answered within {self.limit_s:g} s, its time limit")


@dataclass(frozen=True, slots=True)
class Inference:
    """Outcomes of the images of one request, in order, and times of its stages (`time.perf_counter`)."""

    outcomes: Sequence[Outcome]
    began_at: float
    read_at: float  # when its images had arrived


class InferenceService:
    """Admits or refuses requests, runs inference on their images, and records the time of each stage.

    Args:
        engine: a started engine.
        submit: hands images to the engine, together with images of other requests.
        recorder: counts images and requests that end.
        places: reads the limits on requests in the replica; no limits by default.

    Attributes:
        admission: decides on a request before its body is read.
    """

    def __init__(
        self, engine: "Engine", submit: Submit, recorder: Recorder, places: Callable[[], Places] = lambda: UNLIMITED
    ) -> None:
        self._engine, self._submit, self._recorder = engine, submit, recorder
        self._live = LiveConfig()
        self._budget = MemoryBudget(self._live.max_bytes_in_flight)
        self.admission = Admission(
            lambda body_bytes: engine.expected_wait_s(body_bytes=body_bytes), lambda: self._live, places, self._drop
        )

    @property
    def live(self) -> LiveConfig:
        """The settings in force; new ones apply from the next request on."""
        return self._live

    @live.setter
    def live(self, live: LiveConfig) -> None:
        self._engine.limits = live
        self._budget.max_bytes = live.max_bytes_in_flight
        self._live = live

    @property
    def head(self) -> "Head":
        """The head of the model in service."""
        return self._engine.head

    @property
    def head_parameters(self) -> Mapping[str, Parameter]:
        """Parameters that a request may send to the model's head, by name."""
        return self._engine.head.parameters

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies in work."""
        return self._budget.held_bytes

    # ---- one request ------------------------------------------------------------------------------------------------

    @contextmanager
    def hold(self, source: str) -> Iterator[Hold]:
        """Count the bytes of one request, from before its body is read until its images have their outcomes.

        Args:
            source: address of the client; when memory is full, the address that uses most of it loses a body.
        """
        with self._budget.hold(source) as hold:
            try:
                yield hold
            except asyncio.CancelledError:  # the server cancels when the client has disconnected
                self.note_gone("queue" if hold.is_whole else "read")
                raise

    async def infer(self, images: Sequence[EncodedImage | Rejection], deadline: Deadline) -> Inference:
        """Infer the images of one request.

        Args:
            images: in order; a rejection passes through unchanged.
            deadline: time limit of the request. Images not begun by then are dropped.

        Raises:
            RequestTooCostly, Overloaded: the request is refused.
            DeadlineExceeded: the time limit of the request is over.
            ServerError: the engine failed. A bad image raises no error: it is a `Rejection` in the result.
        """
        read_at = time.perf_counter()
        if deadline.left_s <= 0:
            raise deadline.exceeded()
        try:
            async with asyncio.timeout(deadline.left_s):
                outcomes = await self._outcomes(await self._examined(images, deadline))
        except TimeoutError:
            raise deadline.exceeded() from None
        self._recorder.note_images(outcomes)
        return Inference(outcomes, deadline.began_at, read_at)

    async def _examined(
        self, images: Sequence[EncodedImage | Rejection], deadline: Deadline
    ) -> Sequence[EncodedImage | Rejection]:
        """Read the headers of images: each gets its predicted cost, or is rejected.

        A few images at a time, so that a large request does not block the event loop before it is refused.

        Raises:
            RequestTooCostly, Overloaded: the request is refused.
        """
        examined: list[EncodedImage | Rejection] = []
        for first in range(0, len(images), _IMAGES_EXAMINED_AT_ONCE):
            if first:
                await asyncio.sleep(0)
            examined += self._engine.examine(images[first : first + _IMAGES_EXAMINED_AT_ONCE])
            costs_s = (image.cost_s or 0.0 for image in examined if isinstance(image, EncodedImage))
            check_request(costs_s, self._live.max_request_work_s)
            check_wait(self._engine.expected_wait_s(examined), self._live.max_queue_wait_s, deadline.left_s)
        return examined

    async def _outcomes(self, images: Sequence[EncodedImage | Rejection]) -> list[Outcome]:
        future = await self._submit([image for image in images if isinstance(image, EncodedImage)])
        outcomes: list[Outcome] = await asyncio.wrap_future(future)
        inferred = iter(outcomes)
        return [image if isinstance(image, Rejection) else next(inferred) for image in images]

    # ---- how requests end -------------------------------------------------------------------------------------------

    def note_answered(self, inference: Inference) -> tuple[tuple[float, ...], float]:
        """Record a request whose response is ready; some of its images may have been rejected.

        Returns:
            Seconds in each of `STAGES`, each for the slowest image, and seconds in total.
        """
        timings = [outcome.timings for outcome in inference.outcomes if outcome.timings.ended_at]
        timeline = Timeline(inference.began_at, inference.read_at, time.perf_counter(), timings)
        stages_s, total_s = timeline.longest(), timeline.total_s
        self._recorder.note_answer(stages_s, total_s)
        record_spans(timeline)
        return stages_s, total_s

    def note_refused(self, error: Exception) -> None:
        """Record a request that was answered with an error."""
        self._recorder.note_end(type(error).__name__)

    def note_gone(self, stage: str) -> None:
        """Record a request whose client has disconnected, with the stage that the request had reached."""
        log_gone(stage)
        self._recorder.note_end(GONE_OUTCOME)

    def _drop(self, bodies: int) -> None:
        self._budget.drop_slowest(bodies, self._live.min_body_bytes_per_s)
