"""Keeps the device fed: takes whatever is decoded when the device becomes free, and answers the images."""

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from pipeline.config import BATCHES_AHEAD, STUCK_AFTER_S
from pipeline.decoded import Decoded, count, joined
from pipeline.errors import DeviceFailure, EngineClosed, NonFiniteScores, Stuck, UnclassifiableImage, first_line
from pipeline.host_batch import HostBatch
from pipeline.model.bisection import halved
from pipeline.model.device import Answers, Device, collect
from pipeline.model.device_thread import InFlight, Lane
from pipeline.pace import DevicePace
from pipeline.task import Task

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "device"})


class Feeder:
    """Feeds one device, by a thread for each of its lanes.

    No timer holds an image back while a lane is idle, and no small batch is sealed while all are busy: behind a batch
    in work only a full one is launched ahead.

    Args:
        device: where the model runs.
        labels: the name of every class.
        max_batch_size: images a batch at most; may be replaced at any time.
        release: called with every batch whose memory the device has read.

    Attributes:
        batches: images of a batch that it has answered: how many such batches.
    """

    def __init__(
        self, device: Device, labels: tuple[str, ...], *, max_batch_size: int, release: Callable[[HostBatch], None]
    ) -> None:
        self.max_batch_size = max_batch_size
        self.answered_at = 0.0  # when a batch last came through, by `time.monotonic`
        self.batches: Counter[int] = Counter()
        self._lanes = [Lane() for _ in range(device.lanes)]
        self._stuck_after_s = STUCK_AFTER_S
        self._pace = DevicePace({1: 1.0})
        self._device, self._labels, self._release = device, labels, release
        self._changed = threading.Condition()  # guards the next four, and when lanes are busy
        self._ready: deque[Decoded] = deque()
        self._waiting = 0  # images in `_ready`
        self._ended_s = self._computing_s = 0.0  # of batches that have ended; as it was last told
        self._closing = False
        self._failure: DeviceFailure | None = None
        self._has_scored = False  # any image
        self._warm = threading.Event()
        self._threads = [self._thread(self._warm_up_and_run, self._lanes[0])]
        self._threads += [self._thread(self._run, lane) for lane in self._lanes[1:]]

    @staticmethod
    def _thread(body: Callable[[Lane], None], lane: Lane) -> threading.Thread:
        return threading.Thread(target=body, args=(lane,), name="device", daemon=True)

    def start(self) -> None:
        """Warms the device up, and returns when it is ready for work.

        Raises:
            DeviceFailure: the warm-up failed.
        """
        self._threads[0].start()
        self._warm.wait()
        self.check()
        for thread in self._threads[1:]:
            thread.start()

    def put(self, batch: HostBatch, tasks: list[Task]) -> None:
        """Queues decoded images; they fail at once where the device has."""
        with self._changed:
            if self._failure:
                self._give_up([Decoded(batch, tasks)], self._failure)
                return
            self._ready.append(Decoded(batch, tasks))
            self._waiting += len(batch)
            self._changed.notify()

    def check(self) -> None:
        """Raises the DeviceFailure that has ended the thread, if one has; Stuck where the device does not answer."""
        if self._failure:
            raise self._failure
        silent_s = max((time.monotonic() - lane.turned_at for lane in self._lanes if lane.images), default=0.0)
        if silent_s > self._stuck_after_s:
            raise Stuck(f"the device has not answered a batch for {silent_s:.0f} s")

    @property
    def at_work(self) -> bool:
        """Whether the device has images; `check` sees to it that it gets on with them."""
        return any(lane.images for lane in self._lanes)

    @property
    def batch_size(self) -> int:
        """Images that the device takes at once: no more than is allowed, and no more than pays."""
        return min(self.max_batch_size, self._pace.paying_batch)

    @property
    def computed_as(self) -> str:
        """Description of the way in which the device computes the model."""
        return self._device.computed_as

    @property
    def lanes(self) -> int:
        """Batches that the device computes at a time."""
        return len(self._lanes)

    @property
    def wanted(self) -> int:
        """Images that should wait for the device, so that it does not wait for them."""
        return BATCHES_AHEAD * len(self._lanes) * self.batch_size

    @property
    def waiting(self) -> int:
        """Images that are decoded and not yet on the device."""
        return self._waiting

    @property
    def computing_s(self) -> float:
        """Seconds that all lanes together have computed, those of batches in work included. It never falls."""
        with self._changed:
            now = time.perf_counter()
            in_work_s = sum(now - lane.busy_since for lane in self._lanes if lane.busy_since)
            self._computing_s = max(self._computing_s, self._ended_s + in_work_s)
            return self._computing_s

    @property
    def in_work(self) -> int:
        """Images that wait for the device or are on it."""
        return sum(lane.images for lane in self._lanes) + self._waiting

    def seconds_until_done(self, more: int) -> float:
        """Seconds until the device should have answered all that it has, and so many images behind it."""
        return self._pace.seconds_for(self.in_work + more, self.batch_size) / len(self._lanes)

    def close(self) -> None:
        """Ends the threads after the batches on the device; what still waits fails with EngineClosed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for decoded in self._ready:
            _fail(decoded, EngineClosed("the engine was closed before the model saw the image"))

    def _warm_up_and_run(self, lane: Lane) -> None:
        """Body of the first thread; the warm-up runs here because cuDNN caches its search per thread."""
        try:
            started_at = time.monotonic()
            self._pace = DevicePace(self._device.warm_up(), padded=self._device.pads)
            # Every batch size several times: longer than any batch takes.
            self._stuck_after_s = max(STUCK_AFTER_S, time.monotonic() - started_at)
        except Exception as error:  # noqa: BLE001 - whatever the device raises, `start` reports it
            self._failure = DeviceFailure(f"the warm-up of the model failed: {first_line(error)}")
            self._failure.__cause__ = error
            return
        finally:
            self._warm.set()
        self._run(lane)

    def _run(self, lane: Lane) -> None:
        try:
            self._feed(lane)
        except Exception as error:  # a defect, or a device that answers something else than it was asked
            logger.exception("the device's thread has ended")
            self._failure = self._failure or DeviceFailure("the device's thread has ended; the log says how")
            self._failure.__cause__ = error
        if self._failure:
            self._end(lane, self._failure)

    def _feed(self, lane: Lane) -> None:
        while not self._failure:
            lane.images = sum(batch.images for batch in lane.in_flight)
            work = self._take(at_least=self.batch_size if lane.in_flight else 0)
            if work:
                self._launch(work, lane)
            elif not lane.in_flight:
                return  # closing, or another lane has failed
            if lane.in_flight and (not work or len(lane.in_flight) > self._device.ahead):
                self._answer(lane.in_flight[0], lane)
                lane.in_flight.popleft()

    def _take(self, *, at_least: int) -> list[Decoded]:
        """Takes the images that go onto the device next; none at the end.

        Args:
            at_least: fewer are left to grow, and none are waited for; 0 waits for the first.
        """
        with self._changed:
            if self._waiting < at_least:
                return []
            self._changed.wait_for(lambda: self._ready or self._closing or self._failure)
            if self._closing or self._failure:
                return []
            work = [self._ready.popleft()]
            images = len(work[0].batch)
            while self._ready and images + len(self._ready[0].batch) <= self.batch_size:
                work.append(self._ready.popleft())
                images += len(work[-1].batch)
            self._waiting -= images
        return work

    def _launch(self, work: list[Decoded], lane: Lane) -> None:
        lane.turned_at = time.monotonic()  # before `images`: by both `check` sees how long it has been at them
        lane.images += count(work)
        work.sort(key=lambda decoded: decoded.batch.first)
        now = time.perf_counter()
        lane.busy_since = lane.busy_since or now
        try:
            lane.in_flight.append(InFlight(work, self._device.launch(joined(work)), now))
        except Exception:  # noqa: BLE001 - a model may raise anything; it is logged there
            self._failed(work, lane)
            if not lane.in_flight:
                self._note_end(lane, time.perf_counter())

    def _answer(self, batch: InFlight, lane: Lane) -> None:
        """Collects the oldest batch, launches the next in its place, then hands the answers out.

        In this order a device that works on by itself has its next batch before the interpreter is needed for answers.
        """
        try:
            answers = collect(batch.launched)
        except Exception:  # noqa: BLE001 - a model may raise anything; it is logged there
            self._failed(batch.work, lane)
            self._note_end(lane, time.perf_counter())
            return
        self._note_pace(batch, lane)
        if self._device.ahead and (work := self._take(at_least=self.batch_size if len(lane.in_flight) > 1 else 1)):
            self._launch(work, lane)
        self._settle(batch.work, answers, lane)

    def _note_pace(self, batch: InFlight, lane: Lane) -> None:
        """A batch that was launched ahead has waited for the one before it."""
        now = time.perf_counter()
        took_s = now - max(batch.launched_at, lane.free_at)
        self._pace.note(batch.images, took_s)
        lane.free_at = now
        with self._changed:
            self.batches[batch.images] += 1
        self._note_end(lane, now)

    def _note_end(self, lane: Lane, now: float) -> None:
        """A batch has ended, well or not: the one behind it, if there is one, begins."""
        with self._changed:
            if lane.busy_since:
                self._ended_s += now - lane.busy_since
            lane.busy_since = now if len(lane.in_flight) > 1 else 0.0

    def _settle(self, work: Sequence[Decoded], answers: Answers, lane: Lane) -> None:
        tasks = [task for decoded in work for task in decoded.tasks]
        self.answered_at = lane.turned_at = time.monotonic()
        nan = sum(not math.isfinite(best[0]) for best in answers.scores)  # softmax is NaN in all classes or in none
        if nan and (failure := self._failure_by_nan(nan, work, lane)):
            self._give_up(work, failure)
            return
        self._has_scored |= nan < len(tasks)
        for decoded in work:
            self._release(decoded.batch)
        for task, best, indices in zip(tasks, answers.scores, answers.classes, strict=True):
            task.copy_s, task.model_s = answers.spent.copy_s, answers.spent.model_s
            if nan and not math.isfinite(best[0]):
                task.reject(NonFiniteScores("the model's scores of the image are not finite numbers (NaN)"))
            else:
                task.predict(tuple(self._labels[index] for index in indices), tuple(indices), tuple(best))

    def _failure_by_nan(self, images: int, work: Sequence[Decoded], lane: Lane) -> DeviceFailure | None:
        """Decides whether so many images without scores are the device's fault: whether a black image has none either.

        At the start no image has had scores yet: there it is the model's fault, and the engine says so.
        """
        logger.warning("the model's scores of %d of %d images are NaN", images, count(work))
        if images < count(work) or not self._has_scored:
            return None
        try:
            black = self._compute(lane, [work[0].singles()[0].blackened()])
            if math.isfinite(black.scores[0][0]):
                return None
            self._failure = DeviceFailure("the device has failed: the scores of a black image are NaN too")
        except Exception as error:
            logger.exception("the device fails on a black image")
            self._failure = DeviceFailure("the device has failed; the log says how")
            self._failure.__cause__ = error
        return self._failure

    # ---- when the model raises --------------------------------------------------------------------------------------

    def _failed(self, work: list[Decoded], lane: Lane) -> None:
        images = [single for decoded in work for single in decoded.singles()]
        logger.exception("the model failed on a batch of %d images; trying again, then its halves", len(images))
        answered = 0
        for part, answer in halved(images, partial(self._compute, lane)):
            answered += len(part)
            if isinstance(answer, Exception):
                self._blame(part[0], answer, lane)
            else:
                self._settle(part, answer, lane)
            if self._failure:
                self._give_up(images[answered:], self._failure)
                return

    def _blame(self, image: Decoded, error: Exception, lane: Lane) -> None:
        """The image is at fault where the device computes another; else the device is, and with it the engine.

        (After an error of CUDA's own no kernel runs any more in its process.)
        """
        try:
            self._compute(lane, [image.blackened()])
        except Exception:
            logger.exception("the device fails on a black image too")
            self._failure = DeviceFailure("the device has failed; the log says how")
            self._failure.__cause__ = error
            self._give_up([image], self._failure)
        else:
            logger.warning("the model fails on an image and on no other: %s", error)
            self._release(image.batch)
            image.tasks[0].reject(UnclassifiableImage("the model fails on the image, and on no other"))

    def _compute(self, lane: Lane, work: Sequence[Decoded]) -> Answers:
        lane.turned_at = time.monotonic()
        return collect(self._device.launch(joined(work)))

    def _give_up(self, work: Iterable[Decoded], failure: DeviceFailure) -> None:
        for decoded in work:
            self._release(decoded.batch)
            _fail(decoded, failure)

    def _end(self, lane: Lane, failure: DeviceFailure) -> None:
        with self._changed:
            waiting, self._ready, self._waiting = self._ready, deque(), 0
            self._changed.notify_all()  # the other lanes end too
        self._give_up([*(decoded for batch in lane.in_flight for decoded in batch.work), *waiting], failure)


def _fail(decoded: Decoded, error: DeviceFailure | EngineClosed) -> None:
    for task in decoded.tasks:
        task.request.fail(error)
