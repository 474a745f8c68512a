"""The engine: encoded images in, outcomes out, in order. Usable without Ray and HTTP."""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.assembly import Assembly, loaded
from pipeline.bounds import USUAL_COST_S
from pipeline.config import PipelineConfig
from pipeline.errors import EngineClosed, HeadFailed, InvalidModel, NonFiniteScores, TransformFailed, WorkerFailure
from pipeline.images.cost import body_cost_s
from pipeline.images.examination import examine
from pipeline.live_limits import Limits
from pipeline.model.device import ComputedAs
from pipeline.model.device_kind import OpenDevice, open_device
from pipeline.model.head_fit import check_documents
from pipeline.model.nonfinite import causes
from pipeline.model.served import ServedModel
from pipeline.model.warm_up_images import blank, warm_up_images
from pipeline.records import EncodedImage, Outcome, Prediction, Rejection
from pipeline.self_test import SelfTest
from pipeline.stats import EngineStats
from pipeline.task import Request, Task
from pipeline.users_code import users_traceback

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})


class Engine:
    """Runs a decode stage and a model stage, which do not know each other, and the queue between them.

    Args:
        config: settings of the model, the decoding and the batches. Nothing is loaded or started before `start`.
        limits: limits in force at the start; the default ones allow the largest batch of `config`.
        model: a model to serve instead of the one that `config` names.
        opener: function that opens the device; pass another one for another kind of device.
        speeds: folder of this machine that keeps measured speeds from one start to the next; None to measure always.

    Attributes:
        start_s: seconds that each step of the start took.
        input_spec: shape and number format of a slot; known once the model is loaded.

    Raises:
        ValueError: `limits` allow more than `config` provides for.
    """

    def __init__(
        self,
        config: PipelineConfig,
        limits: Limits | None = None,
        *,
        model: ServedModel | None = None,
        opener: OpenDevice = open_device,
        speeds: Path | None = None,
    ) -> None:
        self.config, self._given = config, model
        self._assembly = assembly = Assembly(config, model, opener, speeds)
        self.device_kind = assembly.device_kind
        self.decode_workers, self.concurrent_batches = assembly.decode_workers, assembly.concurrent_batches
        self._limits = limits or Limits(max_batch_size=config.largest_batch)
        config.check_limits(self._limits)
        self._lifecycle = threading.Lock()
        self.start_s: dict[str, float] = {}
        self._started = self._closed = False

    # ---- build, warm ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the model, start the workers and send test images through the whole path. May be called again.

        Raises:
            InvalidModel, WorkerFailure, DeviceFailure: a part cannot be started. Nothing is left running.
            EngineClosed: the engine was closed before.
        """
        with self._lifecycle:
            if self._closed:
                raise EngineClosed("the engine was closed; make another")
            if not self._started:
                try:
                    self._timed("model", self._build)
                except InvalidModel as error:
                    if trace := users_traceback(error):
                        logger.error("%s", trace)
                    raise
                try:
                    self._timed("workers", self._decode.start)
                    self._timed("device", self._compute.start)
                    self._ready.batch_size = self._compute.batch_size
                    self._timed("warm_up", self._warm_up)
                    self._decode.limits = self._limits
                except BaseException:
                    self._end()
                    raise
                self._started = True
                atexit.register(self.close)  # otherwise threads end inside torch, which aborts the process

    def _timed(self, step: str, take: Callable[[], None]) -> None:
        began_at = time.monotonic()
        take()
        self.start_s[step] = time.monotonic() - began_at

    def _build(self) -> None:
        parts = self._assembly.parts(self._limits)
        served = parts.served
        self.head, self.weights_from, self.transform_from = served.head, served.weights_from, served.transform_from
        self.transform, self.input_spec = parts.transform, parts.input_spec
        self._ready, self._compute, self._decode = parts.ready, parts.compute, parts.decode
        self._unlock_pages = parts.unlock_pages

    def _warm_up(self) -> None:
        self._self_test = SelfTest(EncodedImage(blank(self.transform)), self._decode, self._compute)
        images = [EncodedImage(data) for data in warm_up_images(self.transform)]
        outcomes = self._self_test.begin(copies=self.decode_workers, others=images).result()
        errors = [outcome.error for outcome in outcomes if isinstance(outcome, Rejection)]
        if nan := sum(isinstance(error, NonFiniteScores) for error in errors):
            name = "of the given model" if self._given else self.weights_from
            load = partial(loaded, self.config, self._given)
            why = causes(name, self.computed_as.dtype, load, self.config.std or ())
            raise InvalidModel(f"{why} ({nan} of {len(outcomes)} test images)")
        if broken := next((error for error in errors if isinstance(error, TransformFailed)), None):
            raise InvalidModel(f"transform: it works in the replica and fails in a decoder process: {broken}")
        if failed := next((error for error in errors if isinstance(error, HeadFailed)), None):
            raise InvalidModel(f"the head {type(self.head).__name__} fails on a test image: {failed.reason}")
        if errors:
            raise WorkerFailure(f"a warm-up image came back without a prediction: {errors[0]}")
        usual = {name: parameter.default for name, parameter in self.head.parameters.items()}
        predictions = (outcome for outcome in outcomes if isinstance(outcome, Prediction))
        check_documents(self.head, [partial(prediction.as_json, **usual) for prediction in predictions])

    # ---- serve ------------------------------------------------------------------------------------------------------

    def infer(self, images: Sequence[bytes]) -> list[Outcome]:
        """Return one outcome for each image, in order. Starts the engine if it is not running.

        Args:
            images: encoded images (JPEG, PNG, ...), one `bytes` each.

        Raises:
            ServerError: the engine is at fault. An image at fault raises nothing: its outcome is a `Rejection`.
        """
        self.start()
        return self.submit([[EncodedImage(data) for data in images]])[0].result()

    def submit(self, requests: Iterable[Sequence[EncodedImage]]) -> list[Future[list[Outcome]]]:
        """Queue the images of many requests at once, and return a future for each request. Does not block.

        Images of a cancelled future are not decoded, unless a worker has them already.

        Raises:
            EngineClosed: the engine is not running.
        """
        if not self._started or self._closed:
            raise EngineClosed("the engine is not running")
        return self._submit(requests)

    def _submit(self, requests: Iterable[Sequence[EncodedImage]]) -> list[Future[list[Outcome]]]:
        accepted = [Request(images) for images in requests]
        self._decode.submit([task for request in accepted for task in request.tasks if self._admits(task)])
        return [request.future for request in accepted]

    def _admits(self, task: Task) -> bool:
        if task.image.cost_s is None:
            examined = examine(task.image, self._limits, self.transform, self._decode.users_cost)
            if isinstance(examined, Rejection):
                task.reject(examined.error)
                return False
            task.cost_s = task.image.cost_s or USUAL_COST_S
        return True

    def examine(self, images: Sequence[EncodedImage | Rejection]) -> list[EncodedImage | Rejection]:
        """Read the headers of images and set their costs; an image over a limit is replaced by its rejection."""
        settings = self._limits, self.transform, self._decode.users_cost
        return [image if isinstance(image, Rejection) else examine(image, *settings) for image in images]

    def expected_wait_s(self, images: Sequence[EncodedImage | Rejection] = (), *, body_bytes: int = 0) -> float:
        """Estimate the seconds until the engine reaches the last of these examined images of one request.

        Without images, the estimate is for a request whose body of `body_bytes` has not been read yet. It is taken to
        hold a small photograph, or an image as cheap as the latest ones, or more if the body is large. The service
        reads the body if the wait is short enough; then its images have costs of their own.
        """
        costs_s = [image.cost_s or USUAL_COST_S for image in images if isinstance(image, EncodedImage)]
        if images and not costs_s:
            return 0.0
        usual_s = max(self._decode.usual_cost_s, body_cost_s(body_bytes))
        ahead, decoding_s = self._decode.ahead_of(costs_s or [usual_s])
        return max(decoding_s, self._compute.seconds_until_done(ahead))

    @property
    def in_work(self) -> int:
        """Number of images that have no outcome yet and whose requests still wait."""
        return self._decode.in_work + len(self._ready) + self._compute.in_work

    @property
    def labels(self) -> Sequence[str]:
        """Names of the model's classes; empty if the model has none."""
        return self.head.labels

    @property
    def batch_size(self) -> int:
        """Most images in a batch: no more than the limits allow, and no more than improve the throughput."""
        return self._compute.batch_size

    @property
    def dtype(self) -> str:
        """Name of the number format in which the model is computed."""
        return self.computed_as.dtype

    @property
    def computed_as(self) -> ComputedAs:
        """Description of how the model is computed: in words, the runtime, and the number format."""
        return self._compute.computed_as

    @property
    def stats(self) -> EngineStats:
        """Counts of the work since the start, and of the work in progress."""
        decode, compute = self._decode.stats, self._compute.stats
        return EngineStats(
            decoding_s=decode.decoding_s,
            computing_s=compute.computing_s,
            batches=compute.batches,
            images_dropped=decode.images_dropped,
            workers_replaced=decode.workers_replaced,
            decode_workers=self.decode_workers,
            most_decoding=decode.most_decoding,
            workers_ready=decode.workers_ready,
            concurrent_batches=compute.concurrent_batches,
            in_work=decode.in_work + len(self._ready) + compute.in_work,
            free_slots=decode.free_slots,
        )

    @property
    def limits(self) -> Limits:
        """Limits in force. New limits hold from the next image on.

        Raises:
            ValueError: the new limits allow more than the configuration provides for; the old ones stay in force.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.config.check_limits(limits)
        self._limits = limits
        if self._started:
            self._decode.limits = limits
            self._compute.max_batch_size = limits.max_batch_size
            self._ready.batch_size = self._compute.batch_size

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are ready, spare ones included."""
        return self._decode.pids

    @property
    def sandbox(self) -> str:
        """Description of the resources that the sandbox denies decoder processes on this kernel."""
        return str(self._decode.closed_to_workers)

    def check(self) -> None:
        """Raise the ServerError that keeps the engine from answering, if there is one. Does not wait.

        If no image has been finished lately, this sends a test image, and later calls check that its outcome came:
        workers and device may look alive although no image gets through.
        """
        if not self._started or self._closed:
            raise EngineClosed("the engine is not running")
        self._decode.check()
        self._compute.check(lambda: self._decode.resumed_at)
        self._self_test.check()

    # ---- close ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End workers and device; unanswered requests fail with EngineClosed. May be called again."""
        with self._lifecycle:
            if self._started and not self._closed:
                self._end()
            self._closed = True
            atexit.unregister(self.close)

    def _end(self) -> None:
        self._decode.close()
        self._compute.close()
        self._unlock_pages()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
