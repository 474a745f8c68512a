"""One image on its way through the engine, and the request that waits for it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final

from pipeline.config import USUAL_PRICE_S
from pipeline.errors import ImageError, ServerError
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, StageTimings


class OutcomesFuture(Future[list[Outcome]]):
    """The outcomes of a request.

    Attributes:
        abandoned: as `done()`, but without its lock: each new request asks it of all that wait.
    """

    abandoned = False

    def cancel(self) -> bool:
        """Gives the request up; False where it has ended already."""
        cancelled = super().cancel()
        self.abandoned |= cancelled
        return cancelled


class Request:
    """Images that are answered together: `future` gets one outcome an image, in order.

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
        """Whether nobody waits for the rest: cancelled, or failed through another of its images."""
        return self.future.abandoned

    def answer(self, position: int, outcome: Outcome) -> None:
        """Takes the outcome of one image; the last one settles the request."""
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
        """Ends the whole request with a fault that is not its own."""
        with suppress(InvalidStateError):  # cancelled, or failed through another of its images
            self.future.set_exception(error)
        self.future.abandoned = True


class Task:
    """One image, and what it took where (seconds; 0 where it has not been).

    Attributes:
        request: that waits for it; `ENDED_REQUEST` once the image has its outcome.
        price_s: seconds of one core that decoding it should take.
        costly: whether it waits among those that take long.
        attempts: decodings that ended their worker.
        unblamed_deaths: ends of a worker that had it first in its hands and claimed not to have begun any.
        handed_out_at: when a worker was last given it, by `time.perf_counter`.
        decoded_at: when its pixels were there, likewise.
    """

    __slots__ = (
        "attempts",
        "copy_s",
        "costly",
        "decode_s",
        "decoded_at",
        "handed_out_at",
        "image",
        "model_s",
        "position",
        "price_s",
        "request",
        "unblamed_deaths",
    )

    def __init__(self, request: Request, position: int, image: EncodedImage) -> None:
        self.request, self.position, self.image = request, position, image
        self.price_s = USUAL_PRICE_S if image.price_s is None else image.price_s
        self.costly = False
        self.attempts = self.unblamed_deaths = 0
        self.handed_out_at = self.decoded_at = self.decode_s = self.copy_s = self.model_s = 0.0

    def complete(self, result: Any) -> None:
        """Ends well, with a result of the model's head."""
        self._end(Prediction(result, self._timings()))

    def reject(self, error: ImageError) -> None:
        """Ends with what is wrong with the image."""
        self._end(Rejection(error, self._timings()))

    def _end(self, outcome: Outcome) -> None:
        request, self.request = self.request, ENDED_REQUEST  # the request refers to its tasks
        request.answer(self.position, outcome)

    def _timings(self) -> StageTimings:
        """What is neither decoding nor the device's work was waiting for it."""
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
"""Stands in for the request of an image that has its outcome: nobody waits for another one."""
