"""The model stage: batches decoded images whenever the device becomes free, and answers them."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pipeline.bounds import STALLED_AFTER_S, STUCK_AFTER_BATCHES
from pipeline.errors import (
    DeviceFailure,
    EngineClosed,
    EngineStalled,
    HeadFailed,
    InvalidModel,
    ModelFailedOnImage,
    NonFiniteScores,
    ServerError,
    first_line,
)
from pipeline.model.bisection import bisected
from pipeline.model.device import BatchOutput, ComputedAs, Device, collect
from pipeline.model.device_probe import failure_of
from pipeline.model.device_thread import DeviceThread, InFlight
from pipeline.model.device_times import DeviceTimes
from pipeline.model.head_fit import described
from pipeline.model.head_results import results_of
from pipeline.model.served import Head
from pipeline.pace import DevicePace
from pipeline.ready_queue import PixelBatch, ReadyQueue, pieces
from pipeline.stats import ModelStats

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "device"})


class Batcher:
    """Gathers decoded images into batches for one device, with a thread for each of the device's concurrent batches.

    There is no batch window: an idle thread takes the waiting images at once. While a thread is busy, smaller batches
    keep growing: only a full batch is launched ahead, behind the one in work.

    Args:
        device: the device that runs the model.
        head: turns the device's output into results.
        queue: queue of decoded batches; closed when the device fails, and by `close`.
        max_batch_size: most images in a batch; may be replaced at any time.

    Attributes:
        answered_at: when a batch was last answered, by `time.monotonic`.
    """

    def __init__(self, device: Device, head: Head, queue: ReadyQueue, *, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self.answered_at = 0.0
        self._device_threads = [DeviceThread() for _ in range(device.concurrent_batches)]
        self._stuck_after_s = STALLED_AFTER_S
        self._pace = DevicePace({1: 1.0})
        self._device, self._head, self._queue = device, head, queue
        self._times = DeviceTimes(self._device_threads)
        self._failure: DeviceFailure | InvalidModel | None = None
        self._has_scored = False  # whether any image has had finite scores
        self._warm = threading.Event()
        self._threads = [self._thread(self._warm_up_and_run, self._device_threads[0])]
        self._threads += [self._thread(self._run, thread) for thread in self._device_threads[1:]]

    @staticmethod
    def _thread(body: Callable[[DeviceThread], None], thread: DeviceThread) -> threading.Thread:
        return threading.Thread(target=body, args=(thread,), name="device", daemon=True)

    def start(self) -> None:
        """Warm up the device; return when it is ready.

        Raises:
            DeviceFailure: the warm-up failed.
            InvalidModel: the head does not fit the module.
        """
        self._threads[0].start()
        self._warm.wait()
        self.check()
        for thread in self._threads[1:]:
            thread.start()

    def check(self, resumed_at: Callable[[], float] = lambda: 0.0) -> None:
        """Raise the error that has ended the stage, or EngineStalled if the device does not answer.

        Args:
            resumed_at: function that returns the end of the last time in which this process was frozen, by
                `time.monotonic`.
        """
        if self._failure:
            raise self._failure
        turned_at = min((thread.turned_at for thread in self._device_threads if thread.images), default=math.inf)
        now = time.monotonic()  # before the question: a freeze right after it does not count either
        silent_s = now - max(turned_at, resumed_at())
        if silent_s > self._stuck_after_s:
            raise EngineStalled(f"the device has not answered a batch for {silent_s:.0f} s")

    @property
    def at_work(self) -> bool:
        """True if the device holds images; `check` raises if it does not answer them in time."""
        return any(thread.images for thread in self._device_threads)

    @property
    def batch_size(self) -> int:
        """Most images in a batch: no more than `max_batch_size`, and no more than improve the throughput."""
        return min(self.max_batch_size, self._pace.efficient_batch_size)

    @property
    def computed_as(self) -> ComputedAs:
        """Description of how the device computes the model."""
        return self._device.computed_as

    @property
    def stats(self) -> ModelStats:
        """Counts of the work since the start, and of the work in progress."""
        return self._times.stats

    @property
    def in_work(self) -> int:
        """Number of images on the device."""
        return sum(thread.images for thread in self._device_threads)

    def seconds_until_done(self, more: int) -> float:
        """Estimate the seconds until all images on the device, all in the queue, and `more` after them are answered."""
        images = self.in_work + len(self._queue) + more
        return self._pace.seconds_for(images, self.batch_size) / len(self._device_threads)

    def close(self) -> None:
        """End the threads after the batches on the device; images that still wait fail with EngineClosed."""
        self._queue.close(EngineClosed("the engine was closed before the model saw the image"))
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _warm_up_and_run(self, thread: DeviceThread) -> None:
        """Warm up, then run. Body of the first thread; cuDNN caches its search per thread, so the warm-up runs here."""
        try:
            started_at = time.monotonic()
            seconds = self._device.warm_up()
            self._pace = DevicePace(seconds, padded=self._device.pads)
            warm_up_s = time.monotonic() - started_at
            self._stuck_after_s = max(STALLED_AFTER_S, warm_up_s, STUCK_AFTER_BATCHES * max(seconds.values()))
        except Exception as error:  # noqa: BLE001 - whatever the device raises, `start` reports it
            self._failure = _warm_up_failure(error)
            self._queue.close(self._failure)
            return
        finally:
            self._warm.set()
        self._run(thread)

    def _run(self, thread: DeviceThread) -> None:
        try:
            self._feed(thread)
        except Exception as error:  # a defect, or a device that returns something invalid
            logger.exception("the device's thread has failed")
            self._failure = self._failure or DeviceFailure("the device's thread has failed; see the log")
            self._failure.__cause__ = error
        if self._failure:
            self._end(thread, self._failure)

    def _feed(self, thread: DeviceThread) -> None:
        while not self._failure:
            thread.images = sum(batch.images for batch in thread.in_flight)
            if not thread.in_flight and not self._queue.wait():
                return  # closing, or another thread has failed
            work = self._queue.take(self.batch_size, at_least=self.batch_size if thread.in_flight else 1)
            if work:
                self._launch(work, thread)
            if thread.in_flight and (not work or len(thread.in_flight) > self._device.ahead):
                self._answer(thread.in_flight[0], thread)
                thread.in_flight.popleft()

    def _launch(self, work: list[PixelBatch], thread: DeviceThread) -> None:
        thread.turned_at = time.monotonic()  # before `images`: `check` reads both
        thread.images += sum(map(len, work))
        work.sort(key=lambda batch: batch.first)
        now = time.perf_counter()
        self._times.begin(thread, now)
        try:
            thread.in_flight.append(InFlight(work, self._device.launch(pieces(work)), now))
        except Exception:  # noqa: BLE001 - a model may raise anything; `_failed` logs it
            self._failed(work, thread)
            if not thread.in_flight:
                self._times.end(thread, time.perf_counter())

    def _answer(self, batch: InFlight, thread: DeviceThread) -> None:
        """Collect the oldest batch, launch the next in its place, then answer the images.

        In this order an asynchronous device has its next batch before the answers occupy the interpreter.
        """
        try:
            output = collect(batch.pending)
        except Exception:  # noqa: BLE001 - a model may raise anything; `_failed` logs it
            self._failed(batch.work, thread)
            self._times.end(thread, time.perf_counter())
            return
        self._note_pace(batch, thread)
        if self._device.ahead:
            at_least = self.batch_size if len(thread.in_flight) > 1 else 1
            if work := self._queue.take(self.batch_size, at_least=at_least):
                self._launch(work, thread)
        self._settle(batch.work, output, thread)

    def _note_pace(self, batch: InFlight, thread: DeviceThread) -> None:
        """Note the time of a batch, without the time that it waited for the one before it."""
        now = time.perf_counter()
        took_s = now - max(batch.launched_at, thread.free_at)
        self._pace.note(batch.images, took_s)
        thread.free_at = now
        self._times.count(batch.images)
        self._times.end(thread, now)

    def _settle(self, work: Sequence[PixelBatch], output: BatchOutput, thread: DeviceThread) -> None:
        tasks = [task for batch in work for task in batch.tasks]
        self.answered_at = thread.turned_at = time.monotonic()
        if any(len(rows) != len(tasks) for rows in output.rows.values()):
            raise ValueError(f"the device has returned {described(output.rows)} for {len(tasks)} images")
        bad = output.not_finite()
        if bad and (failure := self._failure_by_nan(len(bad), work, thread)):
            _fail(work, failure)
            return
        self._has_scored |= len(bad) < len(tasks)
        for batch in work:
            batch.release()
        results = results_of(self._head, output.rows, [each for batch in work for each in batch.geometry])
        for position, (task, result) in enumerate(zip(tasks, results, strict=True)):
            task.copy_s, task.model_s = output.timings.copy_s, output.timings.model_s
            if position in bad:
                task.reject(NonFiniteScores("the model's scores of the image are not finite numbers (NaN)"))
            elif isinstance(result, HeadFailed):
                task.reject(result)
            else:
                task.complete(result)

    def _failure_by_nan(self, images: int, work: Sequence[PixelBatch], thread: DeviceThread) -> DeviceFailure | None:
        """Return the device's failure if all images of a batch and a black image have NaN scores; otherwise None.

        Before any image has had finite scores, NaN is the model's fault, and the engine's start reports it.
        """
        in_all = sum(map(len, work))
        logger.warning("the model's scores of %d of %d images are NaN", images, in_all)
        if images < in_all or not self._has_scored:
            return None
        thread.turned_at = time.monotonic()
        self._failure = failure_of(self._device, work[0], by_nan=True)
        return self._failure

    # ---- when the model raises --------------------------------------------------------------------------------------

    def _failed(self, work: list[PixelBatch], thread: DeviceThread) -> None:
        thread.singles = [single for batch in work for single in batch.singles()]
        logger.exception("the model failed on a batch of %d images; trying again, then its halves", len(thread.singles))
        for part, output in bisected(thread.singles, partial(self._compute, thread)):
            if isinstance(output, Exception):
                self._blame(part[0], output, thread)
            else:
                self._settle(part, output, thread)
            if self._failure:
                return  # `_end` fails the remaining images
        thread.singles = []

    def _blame(self, image: PixelBatch, error: Exception, thread: DeviceThread) -> None:
        """Reject the image if the device still computes a black one; otherwise mark the device as failed."""
        thread.turned_at = time.monotonic()
        self._failure = failure_of(self._device, image)
        if not self._failure:
            logger.warning("the model fails on an image and on no other: %s", error)
            image.release()
            image.tasks[0].reject(ModelFailedOnImage("the model fails on the image, and on no other"))

    def _compute(self, thread: DeviceThread, work: Sequence[PixelBatch]) -> BatchOutput:
        thread.turned_at = time.monotonic()
        return collect(self._device.launch(pieces(work)))

    def _end(self, thread: DeviceThread, failure: ServerError) -> None:
        self._queue.close(failure)  # this ends the other threads too
        _fail([*(batch for in_flight in thread.in_flight for batch in in_flight.work), *thread.singles], failure)


def _warm_up_failure(error: Exception) -> DeviceFailure | InvalidModel:
    if isinstance(error, InvalidModel):
        return error
    failure = DeviceFailure(f"the warm-up of the model failed: {first_line(error)}")
    failure.__cause__ = error
    return failure


def _fail(work: Iterable[PixelBatch], failure: ServerError) -> None:
    for batch in work:
        batch.fail(failure)
