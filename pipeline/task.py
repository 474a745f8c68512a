"""One image on its way through the engine, and the request that waits for it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

from pipeline.errors import ImageError, ServerError
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, StageTimings


class Request:
    """Images that are answered together: `future` gets one outcome an image, in order.

    Attributes:
        abandoned: whether nobody waits for the rest: cancelled, or failed through another of its images.
    """

    def __init__(self, images: Sequence[EncodedImage]) -> None:
        self.future: Future[list[Outcome]] = Future()
        self.abandoned = False  # as `future.done()`, which takes a lock: whoever comes asks it of all who wait
        self.future.add_done_callback(self._note_end)
        self.submitted_at = time.perf_counter()
        self.tasks = [Task(self, position, image) for position, image in enumerate(images)]
        self._outcomes: dict[int, Outcome] = {}
        self._lock = threading.Lock()  # its images may end in several threads
        if not images:
            self.future.set_result([])

    def _note_end(self, _: Future[list[Outcome]]) -> None:
        self.abandoned = True

    def answer(self, position: int, outcome: Outcome) -> None:
        """Takes the outcome of one image; the last one settles the request."""
        with self._lock:
            self._outcomes[position] = outcome
            complete = len(self._outcomes) == len(self.tasks)
        if complete:
            with suppress(InvalidStateError):  # cancelled in the meantime
                self.future.set_result([self._outcomes[position] for position in range(len(self.tasks))])

    def fail(self, error: ServerError) -> None:
        """Ends the whole request with a fault that is not its own."""
        with suppress(InvalidStateError):  # cancelled, or failed through another of its images
            self.future.set_exception(error)


class Task:
    """One image, and what it took where (seconds; 0 where it has not been).

    Attributes:
        attempts: decodings that ended their worker.
        handed_out_at: when a worker was last given it, by `time.perf_counter`.
        decoded_at: when its pixels were there, likewise.
    """

    __slots__ = (
        "attempts",
        "copy_s",
        "decode_s",
        "decoded_at",
        "handed_out_at",
        "image",
        "model_s",
        "position",
        "request",
    )

    def __init__(self, request: Request, position: int, image: EncodedImage) -> None:
        self.request, self.position, self.image = request, position, image
        self.attempts = 0
        self.handed_out_at = self.decoded_at = self.decode_s = self.copy_s = self.model_s = 0.0

    def predict(self, labels: tuple[str, ...], indices: tuple[int, ...], scores: tuple[float, ...]) -> None:
        """Ends well: the best classes, best first."""
        self.request.answer(self.position, Prediction(labels, indices, scores, self._timings()))

    def reject(self, error: ImageError) -> None:
        """Ends with what is wrong with the image."""
        self.request.answer(self.position, Rejection(error, self._timings()))

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
