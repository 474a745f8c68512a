"""The decoder processes: starts them, hears them out, watches over them, and replaces those that end.

Each worker has a persistent `torch.utils.data.DataLoader` of its own (`num_workers=1`), fed through a pipe of its own.
One DataLoader over all workers cannot do this: it asks its sampler for the next index before it returns a finished
result, so a live sampler deadlocks it; a queue shared by workers stays locked when one is killed inside `get`; and a
dead worker is noticed only after 5 s without any data, which under load is never. Here a death costs one worker, is
seen at once, and is blamed on the image that the worker had begun.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from pipeline.config import HELD_AFTER_S, MAX_FAILED_STARTS, MAX_UNBLAMED_DEATHS, WORKER_START_TIMEOUT_S
from pipeline.decode.forkserver import look_after_forkserver
from pipeline.decode.messages import MalformedRecord, WorkerReady
from pipeline.decode.sandbox import EVERYTHING, Closed
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.wait_forecast import Forecast
from pipeline.decode.work_queue import Ahead
from pipeline.decode.worker_choice import for_costly, for_ordinary, stands_in_for
from pipeline.decode.worker_health import ended, exceeded_s, late_starters, stopped, why_gone
from pipeline.decode.worker_process import Chunk, WorkerProcess, WorkerStarted
from pipeline.decode.worker_progress import in_work
from pipeline.errors import ServerError, WorkerFailure
from pipeline.host_batch import HostBatch
from pipeline.records import Transform
from pipeline.task import Task

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "decode"})

_WATCH_PERIOD_MS: Final = 50
_CLOSE_GRACE_S: Final = 2.0


class Owner(Protocol):
    """Whose crew it is: gets to know what becomes of its chunks, with the crew's lock held."""

    def limit_s(self, task: Task) -> float:
        """Seconds of a processor core after which the decoding of an image is ended, with its worker."""

    def take(self, chunk: Chunk, batch: HostBatch) -> None:
        """A chunk is done."""

    def salvage(self, chunk: Chunk, claims: Sequence[int], *, overdue_s: float) -> None:
        """The worker that had the chunk has ended; or was ended at that time limit; its claims, an image."""

    def withdraw(self, chunks: Sequence[Chunk]) -> None:
        """The worker that has them is slow, and another is not: what it has not begun of them is for that one."""

    def dispatch(self) -> None:
        """A worker may be idle."""

    def fail(self, failure: ServerError, in_hand: Sequence[Chunk]) -> None:
        """No worker takes chunks any more; these, which some have in hand, are lost."""


class Crew:
    """So many workers and spare ones, for as long as it is not closed.

    Args:
        count: how many decode ordinary images at a time.
        spares: how many processes stand ready beside them.
        slots: where images lie on both sides of decoding.
        transform: what the workers do with an image.
        pin_memory: whether batches pass DataLoader's pin-memory thread, which hands page-locked views on.
        decode_timeout_s: a worker that is at one image for longer is ended, whatever its work.
        changed: held during every call but `start`, `check` and `close`.
        owner: it.

    Attributes:
        replaced: workers that ended, or had to be ended.
        failure: what has ended the crew, if something has.
        closed: to the workers, by their sandbox; nothing before they are ready.
    """

    def __init__(
        self,
        count: int,
        spares: int,
        slots: Slots,
        transform: Transform,
        *,
        pin_memory: bool,
        decode_timeout_s: float,
        changed: threading.Condition,
        owner: Owner,
    ) -> None:
        self.replaced, self.closed = 0, Closed(0)
        self.failure: ServerError | None = None
        self._count, self._spares = count, spares
        self._slots, self._transform, self._pin_memory = slots, transform, pin_memory
        self._decode_timeout_s, self._owner = decode_timeout_s, owner
        self._changed = changed  # guards everything below, and what is above
        self._workers: list[WorkerProcess] = []
        self._failed_starts = 0
        self._watch = threading.Thread(target=self._watch_workers, name="loader-watch", daemon=True)

    def start(self) -> None:
        """Starts the workers and waits until every one is ready.

        Raises:
            WorkerFailure: they do not start; the reason is in the log.
        """
        with self._changed:
            for _ in range(self._count + self._spares):
                self._start_worker()
            self._watch.start()
            self._changed.wait_for(self._settled, timeout=WORKER_START_TIMEOUT_S)
            self.check()
            if not self._settled():
                raise WorkerFailure(f"decoder processes are not ready after {WORKER_START_TIMEOUT_S:.0f} s")
        if self.closed != EVERYTHING:
            logger.warning(
                "this kernel does not give decoder processes the whole sandbox; closed to them are: %s", self.closed
            )

    def check(self) -> None:
        """Raises the ServerError that has ended the crew, if one has."""
        if self.failure:
            raise self.failure

    @property
    def chunks(self) -> list[Chunk]:
        """All that is in hand."""
        return [chunk for worker in self._workers for chunk in worker.chunks]

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready, spare ones included."""
        return [worker.pid for worker in self._workers if worker.ready]

    def for_ordinary(self) -> WorkerProcess | None:
        """The worker that should take the next ordinary images, if one can."""
        return for_ordinary(self._workers, self._count)

    def for_costly(self) -> WorkerProcess | None:
        """The worker that should take the next costly image, if one can."""
        return for_costly(self._workers)

    def wait_s(self, ahead: Ahead, ratio: float) -> float:
        """Seconds until workers should turn to images behind so much, where images take `ratio` times their price."""
        forecast = Forecast(self._workers, ratio, lambda chunk: self._owner.limit_s(chunk.tasks[0]))
        ordinary_s = 0.0 if ahead.ordinary_s is None else forecast.ordinary_s(ahead.ordinary_s, self._count)
        costly_s = 0.0 if ahead.costly_s is None else forecast.costly_s(ahead.costly_s)
        return max(ordinary_s, costly_s)

    def close(self, failure: ServerError) -> None:
        """Ends the workers; what they have in hand is not waited for, and fails with `failure`."""
        with self._changed:
            workers, in_hand = self._workers, self.chunks
            self._workers = []
            self._fail(failure, in_hand)
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSE_GRACE_S
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end(deadline)
            worker.thread.join(_CLOSE_GRACE_S)  # it drops the DataLoader, and with it its queues

    # ---- one worker -------------------------------------------------------------------------------------------------
    # Everything from here on runs with `_changed` held, except the bodies of threads.

    def _start_worker(self) -> None:
        worker = WorkerProcess(self._slots, self._transform, pin_memory=self._pin_memory)
        self._workers.append(worker)
        worker.thread = threading.Thread(target=self._attend, args=(worker,), name="loader-worker", daemon=True)
        worker.thread.start()

    def _attend(self, worker: WorkerProcess) -> None:
        """Body of one thread a worker: starts it, takes what it yields, until it ends."""
        try:
            for record in worker.records():
                with self._changed:
                    if worker in self._workers:  # else it is closing: to its last word, or DataLoader would not end it
                        self._take(worker, record)
        except Exception:  # whatever ended it, `_gone` deals with it
            if worker in self._workers:
                logger.exception("the DataLoader of decoder process %s ended", worker.pid or "(not started)")
        finally:
            with self._changed:
                self._gone(worker)

    def _take(self, worker: WorkerProcess, record: WorkerStarted | WorkerReady | HostBatch | MalformedRecord) -> None:
        if isinstance(record, WorkerStarted):
            worker.has_started(record.pid)
        elif isinstance(record, HostBatch) and worker.has_in_hand(record):
            self._owner.take(worker.take_back(), record)
        elif isinstance(record, WorkerReady) and not worker.ready:
            worker.ready = True
            self.closed = record.closed
            self._failed_starts = 0
            self._changed.notify_all()
        else:
            self._distrust(worker, record)
        self._owner.dispatch()

    def _distrust(self, worker: WorkerProcess, record: WorkerReady | HostBatch | MalformedRecord) -> None:
        """Ends a worker that sends what none sends: an image may have taken it over."""
        why = record if isinstance(record, MalformedRecord) else "it speaks of images that it was not handed"
        logger.error("decoder process %s is not believed any more: %s", worker.pid or "(not ready)", why)
        worker.distrusted = True
        self._gone(worker)

    def _gone(self, worker: WorkerProcess) -> None:
        """Replaces a worker that has ended; its owner gets back what it had in hand."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._failed_starts += not worker.ready and not worker.stopped
        worker.end(deadline=time.monotonic())
        for chunk in reversed(worker.chunks):
            self._owner.salvage(chunk, self._claims(worker, chunk), overdue_s=worker.overdue_s)
        if self._failed_starts >= MAX_FAILED_STARTS:
            self._fail(WorkerFailure(f"{self._failed_starts} decoder processes in a row ended before they were ready"))
        else:
            logger.warning("decoder process %s %s; starting another", worker.pid or "(not started)", why_gone(worker))
            self.replaced += 1
            self._start_worker()
            self._owner.dispatch()
        self._changed.notify_all()

    def _claims(self, worker: WorkerProcess, chunk: Chunk) -> list[int]:
        """The worker's claims on the images of a chunk; of one that is not believed, the worst for its oldest chunk.

        Where somebody has stopped the worker, no image is blamed for having been begun.
        """
        if worker.distrusted:
            return [Claim.STARTED if chunk is worker.chunks[0] else Claim.WAITING] * len(chunk.tasks)
        claims: list[int] = self._slots.claims[chunk.first : chunk.first + len(chunk.tasks)].tolist()
        if worker.stopped:
            claims = [Claim.WAITING if claim == Claim.STARTED else claim for claim in claims]
        if chunk is worker.chunks[0] and Claim.STARTED not in claims:
            for position, task in enumerate(chunk.tasks):
                task.unblamed_deaths += claims[position] != Claim.DECODED
                if task.unblamed_deaths >= MAX_UNBLAMED_DEATHS:
                    claims[position] = Claim.STARTED
        return claims

    def _settled(self) -> bool:
        return self.failure is not None or all(worker.ready for worker in self._workers)

    def _fail(self, failure: ServerError, in_hand: Sequence[Chunk] = ()) -> None:
        self.failure = self.failure or failure
        self._owner.fail(self.failure, in_hand)

    # ---- the watch --------------------------------------------------------------------------------------------------

    def _watch_workers(self) -> None:
        """Body of the watch. Without it a death or a worker that hangs would go unnoticed, so its own end is one."""
        try:
            while not self.failure:
                self._watch_once()
        except Exception:
            logger.exception("the watch over the decoder processes has ended")
            with self._changed:
                self._fail(WorkerFailure("the watch over the decoder processes has ended; the log says how"))

    def _watch_once(self) -> None:
        """Sees within a moment that a worker has ended or was stopped. DataLoader itself looks every 5 s at best."""
        with self._changed:
            workers = [worker for worker in self._workers if worker.pid]
        lost = [*ended(workers, _WATCH_PERIOD_MS), *stopped(workers)]
        if done := look_after_forkserver():
            logger.warning("%s", done)
        with self._changed:
            for worker in [*lost, *late_starters(self._workers)]:
                self._gone(worker)
            self._look_after_slow_workers()

    def _look_after_slow_workers(self) -> None:
        """Ends those that make no progress; has others take what waits behind an image that takes long."""
        for worker in [worker for worker in self._workers if worker.chunks]:
            now = in_work(worker, self._slots)
            worker.overdue_s = exceeded_s(worker, now, self._decode_timeout_s, self._owner.limit_s)
            if worker.overdue_s:
                self._gone(worker)
            elif now.for_s > HELD_AFTER_S and stands_in_for(worker, self._workers):
                worker.held = True
                self._owner.withdraw(worker.chunks)
                self._owner.dispatch()
