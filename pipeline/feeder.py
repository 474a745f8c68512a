"""Keeps the device fed: takes whatever is decoded when the device becomes free, and answers the images."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.device import Device, Launched, collect
from pipeline.errors import DeviceFailure, EngineClosed
from pipeline.records import HostBatch
from pipeline.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Images that wait for the device: `tasks[n]` belongs to `batch.pixels[n]`."""

    batch: HostBatch
    tasks: list[Task]


@dataclass(frozen=True, slots=True)
class InFlight:
    """Images on the device."""

    work: list[Decoded]
    launched: Launched


class Feeder:
    """One thread that feeds one device.

    No timer holds an image back while the device is idle, and no small batch is sealed while it is busy: behind a
    batch in work only a full one is launched ahead.

    Args:
        device: where the model runs.
        labels: the name of every class.
        max_batch_size: images a batch at most; may be replaced at any time.
        release: called with every batch whose memory the device has read.
    """

    def __init__(
        self, device: Device, labels: tuple[str, ...], *, max_batch_size: int, release: Callable[[HostBatch], None]
    ) -> None:
        self.max_batch_size = max_batch_size
        self._device, self._labels, self._release = device, labels, release
        self._changed = threading.Condition()  # guards the next three
        self._ready: deque[Decoded] = deque()
        self._waiting = 0  # images in `_ready`
        self._closing = False
        self._failure: DeviceFailure | None = None
        self._warm = threading.Event()
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Warms the device up in its thread, and returns when it is ready for work.

        Raises:
            DeviceFailure: the warm-up failed.
        """
        self._thread.start()
        self._warm.wait()
        self.check()

    def put(self, batch: HostBatch, tasks: list[Task]) -> None:
        """Queues decoded images."""
        with self._changed:
            self._ready.append(Decoded(batch, tasks))
            self._waiting += len(batch)
            self._changed.notify()

    def check(self) -> None:
        """Raises the DeviceFailure that has ended the thread, if one has."""
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Ends the thread after the batches on the device; what still waits fails with EngineClosed."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        for decoded in self._ready:
            _fail(decoded, EngineClosed("the engine was closed before the model saw the image"))

    def _run(self) -> None:
        try:
            self._device.warm_up()
        except Exception as error:  # noqa: BLE001 - whatever the device raises, `start` reports it
            self._failure = DeviceFailure(f"the warm-up of the model failed: {error}")
            self._failure.__cause__ = error
            return
        finally:
            self._warm.set()
        self._feed()

    def _feed(self) -> None:
        in_flight: deque[InFlight] = deque()
        while True:
            work = self._take(in_flight)
            if work:
                in_flight.extend(self._launch(work))
            elif not in_flight:
                return  # closing
            if in_flight and (not work or len(in_flight) > self._device.ahead):
                self._answer(in_flight.popleft())

    def _take(self, in_flight: deque[InFlight]) -> list[Decoded]:
        """What goes onto the device next; nothing when a batch in work should be answered first, or at the end."""
        with self._changed:
            if in_flight and self._waiting < self.max_batch_size:
                return []
            self._changed.wait_for(lambda: self._ready or self._closing)
            if self._closing:
                return []
            work = [self._ready.popleft()]
            images = len(work[0].batch)
            while self._ready and images + len(self._ready[0].batch) <= self.max_batch_size:
                work.append(self._ready.popleft())
                images += len(work[-1].batch)
            self._waiting -= images
        return work

    def _launch(self, work: list[Decoded]) -> list[InFlight]:
        work.sort(key=lambda decoded: decoded.batch.first)
        now = time.perf_counter()
        for decoded in work:
            for task in decoded.tasks:
                task.launched_at = now
        try:
            return [InFlight(work, self._device.launch(_joined([decoded.batch for decoded in work])))]
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            self._failed(work, error)
            return []

    def _answer(self, batch: InFlight) -> None:
        try:
            scores, classes = collect(batch.launched)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            self._failed(batch.work, error)
            return
        tasks = [task for decoded in batch.work for task in decoded.tasks]
        for decoded in batch.work:
            self._release(decoded.batch)
        for task, best, indices in zip(tasks, scores, classes, strict=True):
            task.predict(tuple(self._labels[index] for index in indices), tuple(indices), tuple(best))

    def _failed(self, work: list[Decoded], error: Exception) -> None:
        logger.exception("the model failed on a batch of %d images", sum(len(decoded.batch) for decoded in work))
        failure = DeviceFailure("the model failed on the batch that the image was in")
        failure.__cause__ = error
        for decoded in work:
            self._release(decoded.batch)
            _fail(decoded, failure)


def _joined(batches: list[HostBatch]) -> list[HostBatch]:
    """The same images in as few pieces as the slots allow: each piece costs one copy."""
    joined = batches[:1]
    for batch in batches[1:]:
        if joined[-1].adjoins(batch):
            joined[-1] = joined[-1].joined(batch)
        else:
            joined.append(batch)
    return joined


def _fail(decoded: Decoded, error: DeviceFailure | EngineClosed) -> None:
    for task in decoded.tasks:
        task.request.fail(error)
