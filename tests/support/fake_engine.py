"""An inference service without an engine: every accepted request is answered at once, with one class."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

from deployments.admission import UNLIMITED, Places
from deployments.live_config import LiveConfig
from deployments.service import InferenceService
from pipeline.head_parameters import WholeNumber
from pipeline.images.examination import examine
from pipeline.live_limits import Limits
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection, StageTimings, Transform
from pipeline.stats import EngineStats

TRANSFORM = Transform(256, 224, "bilinear", "fast", ("JPEG", "PNG", "WEBP"))
TIMINGS = StageTimings(decode_s=0.002, model_s=0.005, ended_at=1.0)
CAT = Prediction({"predictions": [{"label": "cat", "index": 285, "score": 0.5}]}, TIMINGS)
IDLE = EngineStats(
    0.0,
    0.0,
    {},
    0,
    0,
    decode_workers=1,
    most_decoding=1,
    workers_ready=1,
    concurrent_batches=1,
    in_work=0,
    free_slots=8,
)
"""Counts of an engine that has done nothing."""

HEAD = SimpleNamespace(parameters={"top_k": WholeNumber(5, 1, 100)}, schema={"type": "object"})


class FakeEngine:
    """Stands in for an engine that has started.

    Args:
        wait_s: expected wait of every request.

    Attributes:
        asked_bytes: lengths of the bodies whose expected wait was requested.
        requests: images of each submitted request.
        answers: returns the future of a request, which is done unless a test replaces this function.
    """

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s, self.limits = wait_s, Limits()
        self.head: Any = HEAD
        self.asked_bytes, self.requests = list[int](), list[list[EncodedImage]]()
        self.answers: Callable[[list[EncodedImage]], Future[list[Outcome]]] = _done

    def examine(self, images: Sequence[EncodedImage | Rejection]) -> list[EncodedImage | Rejection]:
        """Examine images by their headers, as the engine does."""
        return [image if isinstance(image, Rejection) else examine(image, self.limits, TRANSFORM) for image in images]

    def expected_wait_s(self, images: Sequence[EncodedImage | Rejection] = (), *, body_bytes: int = 0) -> float:
        """Return the same wait for all requests, and three times as much for a large body."""
        if not images:
            self.asked_bytes.append(body_bytes)
        return self.wait_s * (3 if body_bytes > 1000 else 1)

    async def submit(self, images: list[EncodedImage]) -> Future[list[Outcome]]:
        """Record a request, and return its future."""
        self.requests.append(images)
        return self.answers(images)


class FakeRecorder:
    """Records every event.

    Attributes:
        ended: counts of requests without an answer, by outcome.
        images: outcomes of images, in order.
        answered: for each answered request, the seconds of each stage and in all.
    """

    def __init__(self) -> None:
        self.ended = Counter[str]()
        self.images = list[Outcome]()
        self.answered = list[tuple[tuple[float, ...], float]]()

    def note_images(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of one request."""
        self.images += outcomes

    def note_answer(self, stages_s: tuple[float, ...], took_s: float) -> None:
        """Record one answered request."""
        self.answered.append((stages_s, took_s))

    def note_end(self, outcome: str) -> None:
        """Record one request that was not answered."""
        self.ended[outcome] += 1


class FakeService(InferenceService):
    """The real inference service, with an engine that answers at once.

    Args:
        wait_s: expected wait of every request.
        places: the replica's places for requests.
        live: settings that differ from the default ones.
    """

    def __init__(self, wait_s: float = 0.0, places: Callable[[], Places] = lambda: UNLIMITED, **live: Any) -> None:
        self.engine, self.recorder = FakeEngine(wait_s), FakeRecorder()
        super().__init__(cast("Any", self.engine), self.engine.submit, self.recorder, places)
        self.live = LiveConfig(**live)


def _done(images: list[EncodedImage]) -> Future[list[Outcome]]:
    future = Future[list[Outcome]]()
    future.set_result([CAT] * len(images))
    return future
