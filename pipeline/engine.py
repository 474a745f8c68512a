"""The engine: encoded images in, outcomes out, in order. Usable without Ray and HTTP."""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import torch

from pipeline.config import PROBE_WHEN_IDLE_FOR_S, STALLED_AFTER_S, USUAL_PRICE_S, Limits, PipelineConfig
from pipeline.decode.slots import Slots
from pipeline.decode.stage import DecodeStage
from pipeline.errors import EngineClosed, EngineStalled, InvalidModel, NonFiniteScores, WorkerFailure
from pipeline.images.examination import examine
from pipeline.images.price import body_price_s
from pipeline.model.batcher import Batcher
from pipeline.model.device_kind import OpenDevice, open_device, resolved_kind, resolved_sizes
from pipeline.model.device_module import DTYPES, DeviceModule
from pipeline.model.nonfinite import causes
from pipeline.model.precision import quickest
from pipeline.model.served import ServedModel
from pipeline.model.torchvision_classifier import load_model
from pipeline.model.warm_up_images import blank, warm_up_images
from pipeline.ready_queue import ReadyQueue
from pipeline.records import EncodedImage, Outcome, Rejection
from pipeline.stats import EngineStats
from pipeline.task import Request, Task

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})


class Engine:
    """A decode stage and a model stage, which do not know each other, and the queue between them.

    Args:
        config: what to serve, and how. Nothing is loaded or started before `start`.
        limits: those in force at the start; the default ones allow the largest batch of `config`.
        model: to be served instead of the one that `config` names.
        opener: makes the device; for one of another kind.

    Attributes:
        start_s: seconds that each step of the start took.

    Raises:
        ValueError: `limits` ask for more than `config` allows.
    """

    def __init__(
        self,
        config: PipelineConfig,
        limits: Limits | None = None,
        *,
        model: ServedModel | None = None,
        opener: OpenDevice = open_device,
    ) -> None:
        self.config, self._given, self._opener = config, model, opener
        self.device_kind = resolved_kind(config)
        self.decode_workers, self.concurrent_batches = resolved_sizes(config, self.device_kind)
        self._limits = limits or Limits(max_batch_size=config.largest_batch)
        config.check_limits(self._limits)
        self._lifecycle = threading.Lock()
        self.start_s: dict[str, float] = {}
        self._started = self._closed = False

    # ---- build, warm ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Loads the model, starts the workers and runs the whole path once. May be called again.

        Raises:
            InvalidModel, WorkerFailure, DeviceFailure: what cannot be started. Nothing is left running.
            EngineClosed: it was closed before.
        """
        with self._lifecycle:
            if self._closed:
                raise EngineClosed("the engine was closed; make another")
            if not self._started:
                self._timed("model", self._build)
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
                atexit.register(self.close)  # else its threads end inside torch, and abort the process

    def _timed(self, step: str, take: Callable[[], None]) -> None:
        began_at = time.monotonic()
        take()
        self.start_s[step] = time.monotonic() - began_at

    def _build(self) -> None:
        served = self._load()
        self.head, self.weights_from, self.transform_from = served.head, served.weights_from, served.transform_from
        self.transform = served.transform.in_workers(self.config)
        level = logging.WARNING if served.transform_is_assumed else logging.INFO
        logger.info("weights: %s", served.weights_from)
        logger.log(level, "transform: %s, from %s", served.transform, served.transform_from)
        module = DeviceModule.of(served, DTYPES.get(self.config.dtype, torch.float32))  # auto begins with that
        if self.config.dtype == "auto":
            module = quickest(module, self.device_kind, self.transform.crop_px, self.config.largest_batch)
        self._module = module
        self.dtype = str(module.dtype).removeprefix("torch.")
        slots = Slots(self.config.slots, self.transform.crop_px)
        device = self._opener(
            self.device_kind,
            module,
            batch_sizes=self.config.batch_sizes,
            side_px=self.transform.crop_px,
            concurrent_batches=self.concurrent_batches,
        )
        self._unlock_pages = device.page_lock(slots.tensor)
        self._ready = ReadyQueue(
            batch_size=1, concurrent_batches=device.concurrent_batches
        )  # until the warm-up has shown what pays
        self._compute = Batcher(device, self.head, self._ready, max_batch_size=self._limits.max_batch_size)
        self._decode = DecodeStage(
            self.decode_workers,
            slots,
            self.transform,
            self._ready,
            spares=self.config.spare_workers,
            pin_memory=self.device_kind == "cuda",
            chunk_bytes=self.config.chunk_bytes,
            decode_timeout_s=self.config.decode_timeout_s,
            limits=self._limits.model_copy(
                update={"max_image_pixels": self.transform.resize_px**2}
            ),  # until it is warm
        )

    def _load(self) -> ServedModel:
        return self._given or load_model(self.config)

    def _warm_up(self) -> None:
        self._canary = EncodedImage(blank(self.transform))
        images = [EncodedImage(data) for data in warm_up_images(self.transform)]
        request = Request([self._canary] * self.decode_workers + images)
        self._decode.submit(request.tasks)  # not held against the limits, which are for clients
        self._probe, self._probed_at = request.future, time.monotonic()
        errors = [outcome.error for outcome in request.future.result() if isinstance(outcome, Rejection)]
        if nan := sum(isinstance(error, NonFiniteScores) for error in errors):
            name = "of the given model" if self._given else f"{self.config.weights} of {self.config.model}"
            why = causes(name, self._module, self._load, self.config.std or ())
            raise InvalidModel(f"{why} ({nan} of {len(request.tasks)} test images)")
        if errors:
            raise WorkerFailure(f"a warm-up image came back without a prediction: {errors[0]}")

    # ---- serve ------------------------------------------------------------------------------------------------------

    def infer(self, images: Sequence[bytes]) -> list[Outcome]:
        """One outcome an image, in order; starts the engine where it is not.

        Args:
            images: encoded images (JPEG, PNG, ...), one `bytes` each.

        Raises:
            ServerError: the engine, not an image, is at fault. A bad image is a `Rejection` in its place.
        """
        self.start()
        return self.submit([[EncodedImage(data) for data in images]])[0].result()

    def submit(self, requests: Iterable[Sequence[EncodedImage]]) -> list[Future[list[Outcome]]]:
        """Queues the images of many requests at once, and returns a future for each request.

        A future that is cancelled saves what of its images has not been handed to a worker. Does not block.

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
        if task.image.price_s is None:
            examined = examine(task.image, self._limits, self.transform)
            if isinstance(examined, Rejection):
                task.reject(examined.error)
                return False
            task.price_s = task.image.price_s or USUAL_PRICE_S
        return True

    def examine(self, images: Sequence[EncodedImage | Rejection]) -> list[EncodedImage | Rejection]:
        """Reads the headers of images and writes their prices on them; where one is refused by that, its rejection."""
        limits, transform = self._limits, self.transform
        return [image if isinstance(image, Rejection) else examine(image, limits, transform) for image in images]

    def expected_wait_s(self, images: Sequence[EncodedImage | Rejection] = (), *, body_bytes: int = 0) -> float:
        """Seconds until the engine should turn to the last of these images of one request, which have been examined.

        Without any, seconds until it should turn to what is in a body of so many bytes: a small photograph, or an image
        as cheap as those of late, or more where the body is large. It is read if that is soon enough, and then its
        images have prices of their own.
        """
        prices_s = [image.price_s or USUAL_PRICE_S for image in images if isinstance(image, EncodedImage)]
        if images and not prices_s:
            return 0.0
        usual_s = max(self._decode.usual_price_s, body_price_s(body_bytes))
        ahead, decoding_s = self._decode.ahead_of(prices_s or [usual_s])
        return max(decoding_s, self._compute.seconds_until_done(ahead))

    @property
    def in_work(self) -> int:
        """Images that somebody waits for and that have no outcome yet."""
        return self._decode.in_work + len(self._ready) + self._compute.in_work

    @property
    def labels(self) -> Sequence[str]:
        """Names of the model's classes; empty where it has none."""
        return self.head.labels

    @property
    def batch_size(self) -> int:
        """Images that the device takes at once, at most: what the limits allow, and no more than pays."""
        return self._compute.batch_size

    @property
    def computed_as(self) -> str:
        """Description of the way in which the model is computed, e.g. "CUDA graphs with batch norm folded"."""
        return self._compute.computed_as

    @property
    def stats(self) -> EngineStats:
        """What it has done since its start, and what it holds now."""
        decode, compute = self._decode.stats, self._compute.stats
        return EngineStats(
            decoding_s=decode.decoding_s,
            computing_s=compute.computing_s,
            batches=compute.batches,
            images_dropped=decode.images_dropped,
            workers_replaced=decode.workers_replaced,
            decode_workers=self.decode_workers,
            workers_ready=decode.workers_ready,
            concurrent_batches=compute.concurrent_batches,
            in_work=decode.in_work + len(self._ready) + compute.in_work,
            free_slots=decode.free_slots,
        )

    @property
    def limits(self) -> Limits:
        """The limits in force; what is set here holds from the next image on.

        Raises:
            ValueError: on setting more than the configuration allows; the old limits stay in force.
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
        """In words, what decoder processes cannot reach on this kernel."""
        return str(self._decode.closed_to_workers)

    def check(self) -> None:
        """Raises the ServerError that keeps the engine from answering, if there is one. Does not wait.

        Where no image has come through lately, it sends one of its own, and looks after it when called again: workers
        and device may look alive and let nothing through.
        """
        if not self._started or self._closed:
            raise EngineClosed("the engine is not running")
        self._decode.check()
        self._compute.check()
        idle_s = time.monotonic() - max(self._compute.answered_at, self._probed_at)
        if not self._probe.done():
            # What workers and device are at has limits of its own, which follow from what it is. What they have just
            # ended, be it with a rejection or with a worker's life, is as good a sign as an answer.
            at_work = self._decode.at_work or self._compute.at_work  # before `moved_at`, which is its end
            still_s = min(idle_s, time.monotonic() - self._decode.moved_at)
            if still_s > STALLED_AFTER_S and not at_work:
                raise EngineStalled(f"no image has come through for {still_s:.0f} s, not even one of the engine's own")
        elif idle_s > PROBE_WHEN_IDLE_FOR_S:
            request = Request([self._canary])
            self._probe, self._probed_at = request.future, time.monotonic()
            self._decode.submit(request.tasks)

    # ---- close ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends workers and device; what is not answered fails with EngineClosed. May be called again."""
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
