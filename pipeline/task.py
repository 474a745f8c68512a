"""One image on its way through the engine, and the request that waits for it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final

from pipeline.bounds import USUAL_COST_S
from pipeline.errors import ImageError, ServerError
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, StageTimings


class OutcomesFuture(Future[list[Outcome]]):
    """Future of the outcomes of a request.

    Attributes:
        abandoned: the same as `done()`, but without a lock: each new request reads this of all that wait.
    """

    abandoned = False

    def cancel(self) -> bool:
        """Cancel the request; return False if it has ended already."""
        cancelled = super().cancel()
        self.abandoned |= cancelled
        return cancelled


class Request:
    """Images that are answered together: `future` gets one outcome for each image, in order.

    An answered request leaves no reference cycle: its images are freed at once, not by the garbage collector.
    """

    def __init__(self, images: Sequence[EncodedImage]) -> None:
        self.future = OutcomesFuture()
        self.submitted_at = time.perf_counter()
        self.tasks = [Task(self, position, image) for position, image in enumerate(images)]
        self._outcomes: dict[int, Outcome] = {}
        self._lock = threading.Lock()  # its images may end in several threads
        if not images:
            self._settle([])

    @property
    def abandoned(self) -> bool:
        """True if no client waits for more outcomes: the request was answered, was cancelled, or has failed."""
        return self.future.abandoned

    def answer(self, position: int, outcome: Outcome) -> None:
        """Set the outcome of one image; the last outcome completes the request."""
        if self.abandoned:
            return
        with self._lock:
            self._outcomes[position] = outcome
            complete = len(self._outcomes) == len(self.tasks)
        if complete:
            self._settle([self._outcomes[position] for position in range(len(self.tasks))])

    def _settle(self, outcomes: list[Outcome]) -> None:
        with suppress(InvalidStateError):  # cancelled in the meantime
            self.future.set_result(outcomes)
        self.future.abandoned = True

    def fail(self, error: ServerError) -> None:
        """End the whole request with an error of the server."""
        with suppress(InvalidStateError):  # cancelled, or failed through another of its images
            self.future.set_exception(error)
        self.future.abandoned = True


class Task:
    """One image of a request, and the time that it spent in each stage (seconds; 0 before it has been there).

    Attributes:
        request: the request that waits for the image; `ENDED_REQUEST` once the image has its outcome.
        cost_s: seconds of one core that decoding the image should take.
        costly: whether the image waits in the queue of costly images.
        attempts: number of decodings that ended their worker.
        unblamed_deaths: number of workers that ended with this image in their oldest chunk, none of it begun.
        handed_out_at: when the image was last handed to a worker, by `time.perf_counter`.
        decoded_at: when its pixels were ready, by `time.perf_counter`.
    """

    __slots__ = (
        "attempts",
        "copy_s",
        "cost_s",
        "costly",
        "decode_s",
        "decoded_at",
        "handed_out_at",
        "image",
        "model_s",
        "position",
        "request",
        "unblamed_deaths",
    )

    def __init__(self, request: Request, position: int, image: EncodedImage) -> None:
        self.request, self.position, self.image = request, position, image
        self.cost_s = USUAL_COST_S if image.cost_s is None else image.cost_s
        self.costly = False
        self.attempts = self.unblamed_deaths = 0
        self.handed_out_at = self.decoded_at = self.decode_s = self.copy_s = self.model_s = 0.0

    def complete(self, result: Any) -> None:
        """End the image with a result of the model's head."""
        self._end(Prediction(result, self._timings()))

    def reject(self, error: ImageError) -> None:
        """End the image with its error."""
        self._end(Rejection(error, self._timings()))

    def _end(self, outcome: Outcome) -> None:
        request, self.request = self.request, ENDED_REQUEST  # the request refers to its tasks
        request.answer(self.position, outcome)

    def _timings(self) -> StageTimings:
        """Return the seconds by stage; time that was neither decoding nor the device's work counts as waiting."""
        now = time.perf_counter()
        decoded_at = self.decoded_at or now
        return StageTimings(
            queue_s=decoded_at - self.decode_s - self.request.submitted_at,
            decode_s=self.decode_s,
            wait_s=max(0.0, now - decoded_at - self.copy_s - self.model_s) if self.model_s else 0.0,
            copy_s=self.copy_s,
            model_s=self.model_s,
            ended_at=now,
        )


ENDED_REQUEST: Final = Request([])
"""Stand-in for the request of an image that has its outcome: no client waits for another one."""
