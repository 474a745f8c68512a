"""The decode stage: decoder processes turn encoded images into batches of pixels in the ready queue."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

from pipeline.bounds import MAX_FAILED_STARTS, USUAL_PIXELS, WORKER_START_TIMEOUT_S
from pipeline.decode.dispatcher import Dispatcher
from pipeline.decode.messages import DecodedPixels, MalformedRecord, WorkerReady
from pipeline.decode.sandbox import ALL_CLOSED, Closed
from pipeline.decode.slots import Slots
from pipeline.decode.supervisor import Supervisor
from pipeline.decode.worker_health import why_gone
from pipeline.decode.worker_pool import WorkerPool
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess, WorkerStarted
from pipeline.errors import EngineClosed, ServerError, WorkerFailure
from pipeline.live_limits import Limits
from pipeline.ready_queue import ReadyQueue
from pipeline.records import WorkerTransform
from pipeline.stats import DecodeStats
from pipeline.task import Task
from pipeline.transform_cost import TransformCost

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "decode"})

_CLOSE_GRACE_S: Final = 2.0


class DecodeStage:
    """Owns the backlog, the decoder processes, and the slots that hold images until the model has read them.

    One lock guards all of them. The lock is held while a record of a worker is processed, while images are submitted,
    and while the slots of a batch are freed. One thread for each worker reads its records; one more supervises the
    workers.

    Args:
        workers: number of processes that decode ordinary images at a time.
        slots: shared memory for encoded and decoded images.
        transform: resize and crop that the workers apply.
        queue: queue for decoded batches.
        spares: number of spare processes beside the workers.
        chunk_bytes: encoded bytes at which a chunk, the images handed to a worker together, is full.
        decode_timeout_s: the longest that decoding an image may take, whatever its cost.
        limits: the limits at the start; `limits` may be replaced at any time.
    """

    def __init__(
        self,
        workers: int,
        slots: Slots,
        transform: WorkerTransform,
        queue: ReadyQueue,
        *,
        spares: int,
        chunk_bytes: int,
        decode_timeout_s: float,
        limits: Limits,
    ) -> None:
        self._slots = slots
        self._changed = threading.Condition()  # guards everything below
        self._pool = WorkerPool(workers, spares, slots, transform)
        self._dispatcher = Dispatcher(
            self._pool,
            slots,
            transform,
            queue,
            self._give_back,
            chunk_bytes=chunk_bytes,
            decode_timeout_s=decode_timeout_s,
            limits=limits,
        )
        self._failure: ServerError | None = None
        self._supervisor = Supervisor(
            self._pool, self._dispatcher, slots, self._changed, self._replace, decode_timeout_s=decode_timeout_s
        )
        self._watch = threading.Thread(target=self._watch_workers, name="decode-watch", daemon=True)

    def start(self) -> None:
        """Start the workers and wait until all are ready.

        Raises:
            WorkerFailure: workers do not start; the reason is in the log.
        """
        with self._changed:
            for _ in range(self._pool.size):
                self._start_worker()
            self._watch.start()
            self._changed.wait_for(lambda: self._failure or self._pool.all_ready, timeout=WORKER_START_TIMEOUT_S)
            self.check()
            if not self._pool.all_ready:
                raise WorkerFailure(f"decoder processes are not ready after {WORKER_START_TIMEOUT_S:.0f} s")
        if self._pool.closed != ALL_CLOSED:
            logger.warning(
                "this kernel supports only part of the sandbox for decoder processes: %s",
                self._pool.closed,
            )

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue images for decoding. Each later enters the ready queue, is rejected, or fails with its request."""
        with self._changed:
            if self._failure:
                for task in tasks:
                    task.request.fail(self._failure)
                return
            self._dispatcher.backlog.add(tasks)
            self._dispatcher.dispatch()

    def check(self) -> None:
        """Raise the ServerError that has ended the stage, if there is one."""
        if self._failure:
            raise self._failure

    @property
    def limits(self) -> Limits:
        """Limits for the images that are handed out next; may be replaced at any time."""
        return self._dispatcher.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._dispatcher.limits = limits

    @property
    def stats(self) -> DecodeStats:
        """Counts of the work since the start, and of the work in progress."""
        with self._changed:
            return DecodeStats(
                decoding_s=self._dispatcher.decoding_s,
                images_dropped=self._dispatcher.backlog.dropped,
                workers_replaced=self._pool.replaced,
                workers_ready=min(len(self._pool.pids), self._pool.count),
                most_decoding=self._dispatcher.most_decoding,
                in_work=self._dispatcher.in_work,
                free_slots=self._slots.free,
            )

    @property
    def in_work(self) -> int:
        """Number of images that are not decoded yet and whose requests still wait."""
        with self._changed:
            return self._dispatcher.in_work

    @property
    def at_work(self) -> bool:
        """True if a worker holds images; the supervising thread ends a worker that makes no progress with them."""
        with self._changed:
            return bool(self._pool.chunks)

    @property
    def moved_at(self) -> float:
        """Time at which a worker last returned images, or ended while it held some, by `time.monotonic`."""
        return self._dispatcher.moved_at

    @property
    def resumed_at(self) -> float:
        """End of the last time in which this process was frozen, by `time.monotonic`; 0 if it never was."""
        return self._supervisor.resumed_at

    def ahead_of(self, costs_s: Sequence[float]) -> tuple[int, float]:
        """Return the images, and seconds of work, ahead of the last of new images of one request at these costs."""
        with self._changed:
            return self._dispatcher.ahead_of(costs_s)

    @property
    def usual_cost_s(self) -> float:
        """Cost assumed for an image whose header has not been read yet."""
        users_s = self.users_cost.seconds(USUAL_PIXELS) if self.users_cost else 0.0
        return self._dispatcher.backlog.pace.usual_cost_s + users_s

    @property
    def users_cost(self) -> TransformCost | None:
        """Learned time of a transform of the user's own; None if there is none."""
        return self._dispatcher.users_cost

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready, spare ones included."""
        with self._changed:
            return self._pool.pids

    @property
    def closed_to_workers(self) -> Closed:
        """Resources that the sandbox denies the workers."""
        return self._pool.closed

    def close(self) -> None:
        """End the workers; images that are not decoded fail with EngineClosed. May be called again."""
        with self._changed:
            in_hand, workers = self._pool.chunks, self._pool.clear()
            self._fail(EngineClosed("the engine was closed before the image was decoded"), in_hand)
        deadline = time.monotonic() + _CLOSE_GRACE_S
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end(deadline)
            if worker.thread:
                worker.thread.join(_CLOSE_GRACE_S)  # the thread drops the DataLoader, and with it its queues

    # ---- the workers ------------------------------------------------------------------------------------------------
    # Everything from here on runs with `_changed` held, except the bodies of threads and `_give_back`.

    def _start_worker(self) -> None:
        worker = self._pool.add()
        thread = threading.Thread(target=self._attend, args=(worker,), name="decode-worker", daemon=True)
        thread.start()
        worker.thread = thread

    def _attend(self, worker: WorkerProcess) -> None:
        """Start a worker and process its records until it ends. Runs in a thread for each worker."""
        try:
            for record in worker.records():
                with self._changed:
                    if worker in self._pool:  # else closing: read on, or DataLoader does not end the worker
                        self._take(worker, record)
                        self._dispatcher.dispatch()
        except Exception:  # for any cause, `_replace` starts another worker
            if worker in self._pool:
                logger.exception("the DataLoader of decoder process %s ended", worker.pid or "(not started)")
        finally:
            with self._changed:
                self._replace(worker)

    def _take(
        self, worker: WorkerProcess, record: WorkerStarted | WorkerReady | DecodedPixels | MalformedRecord
    ) -> None:
        if isinstance(record, WorkerStarted):
            worker.has_started(record.pid)
        elif isinstance(record, DecodedPixels) and worker.has_in_hand(record):
            self._dispatcher.accept(worker.take_back(), record)
        elif isinstance(record, WorkerReady) and not worker.ready:
            self._pool.note_ready(worker, record.closed)
            self._changed.notify_all()
        else:
            self._distrust(worker, record)

    def _distrust(self, worker: WorkerProcess, record: WorkerReady | DecodedPixels | MalformedRecord) -> None:
        """Replace a worker that sends invalid records: an image may have taken the worker over."""
        why = record if isinstance(record, MalformedRecord) else "it reported on images that it was not given"
        logger.error("decoder process %s sent an invalid record and is replaced: %s", worker.pid or "(not ready)", why)
        worker.distrusted = True
        self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        """Take back the images of a worker that has ended, and start another worker."""
        if worker not in self._pool:
            return
        for lost in self._pool.remove(worker):
            self._dispatcher.salvage(lost)
        if self._pool.failed_starts >= MAX_FAILED_STARTS:
            self._fail(
                WorkerFailure(f"{self._pool.failed_starts} decoder processes in a row ended before they were ready")
            )
        else:
            logger.warning("decoder process %s %s; starting another", worker.pid or "(not started)", why_gone(worker))
            self._pool.replaced += 1
            try:
                self._start_worker()
            except (OSError, RuntimeError, MemoryError) as error:  # no file, memory or thread left
                logger.exception("no decoder process can be started")
                self._fail(WorkerFailure(f"no decoder process can be started: {error}"))
            self._dispatcher.dispatch()
        self._changed.notify_all()

    def _fail(self, failure: ServerError, in_hand: Sequence[DecodeChunk] = ()) -> None:
        """Stop handing out images; fail those that wait, and those of chunks that workers will not return."""
        self._failure = self._failure or failure
        self._dispatcher.fail(self._failure, in_hand)
        self._changed.notify_all()

    def _watch_workers(self) -> None:
        """Supervise the workers until the stage fails or is closed. If this thread itself fails, the stage fails."""
        try:
            while not self._failure:
                self._supervisor.look()
        except Exception:
            logger.exception("the thread that supervises the decoder processes has failed")
            with self._changed:
                self._fail(WorkerFailure("the thread that supervises the decoder processes has failed; see the log"))

    def _give_back(self, first: int, count: int) -> None:
        """Free the slots of a batch. Called from any thread, by `PixelBatch.release`."""
        with self._changed:
            self._slots.release(first, count)
            self._dispatcher.dispatch()
