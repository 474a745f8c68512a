"""Owns the decoder processes: hands encoded images out to them, and what they decoded on to the device.

Each worker has a persistent `torch.utils.data.DataLoader` of its own (`num_workers=1`), fed through a pipe of its own.
One DataLoader over all workers cannot do this: it asks its sampler for the next index before it returns a finished
result, so a live sampler deadlocks it; a queue shared by workers stays locked when one is killed inside `get`; and a
dead worker is noticed only after 5 s without any data, which under load is never. Here a death costs one worker, is
seen at once, and is blamed on the image that the worker had begun.
"""

import logging
import select
import threading
import time
from collections.abc import Iterable
from typing import Protocol

from pipeline.config import (
    BATCHES_AHEAD,
    CHUNK_BYTES,
    CHUNKS_PER_WORKER,
    CLAIM_TIMEOUT_S,
    MAX_FAILED_STARTS,
    WORKER_START_TIMEOUT_S,
    Limits,
)
from pipeline.errors import EngineClosed, FatalImage, ServerError, SlowImage, WorkerFailure
from pipeline.pace import DecodePace
from pipeline.records import HostBatch, Transform
from pipeline.slots import Claim, Slots
from pipeline.task import Task
from pipeline.turns import Turns
from pipeline.worker import WorkerReady
from pipeline.worker_process import Chunk, WorkerProcess

logger = logging.getLogger(__name__)

_WATCH_PERIOD_MS = 250
_CLOSE_GRACE_S = 2.0


class Device(Protocol):
    """What takes the decoded images."""

    @property
    def batch_size(self) -> int:
        """Images that it takes at once."""

    @property
    def waiting(self) -> int:
        """Images that it has not taken yet."""

    def put(self, batch: HostBatch, tasks: list[Task]) -> None:
        """Queues images for it. Does not block."""


class Loader:
    """The decoder processes, the queue before them and the slots between them and the device.

    Args:
        workers: how many processes.
        slots: where images lie on both sides of decoding.
        transform: what the workers do with an image.
        pin_memory: whether batches pass DataLoader's pin-memory thread, which hands page-locked views on.
        decode_timeout_s: a worker that decodes one image for longer is ended, and the image rejected.
        limits: the limits at the start; `limits` may be replaced at any time.
        device: where decoded batches go, in a loader's thread. Their slots come back through `release`.
    """

    def __init__(
        self,
        workers: int,
        slots: Slots,
        transform: Transform,
        *,
        pin_memory: bool,
        decode_timeout_s: float,
        limits: Limits,
        device: Device,
    ) -> None:
        self.limits = limits
        self.dropped = 0  # images that nobody waited for any more when their turn came
        self.replaced = 0  # workers that ended, or had to be ended
        self._count, self._slots, self._transform, self._pin_memory = workers, slots, transform, pin_memory
        self._decode_timeout_s, self._device = decode_timeout_s, device
        self._pace = DecodePace()
        self._changed = threading.Condition()  # guards everything below
        self._workers: list[WorkerProcess] = []
        self._pending = Turns()
        self._failed_starts = 0
        self._failure: ServerError | None = None
        self._watch = threading.Thread(target=self._watch_workers, name="loader-watch", daemon=True)

    def start(self) -> None:
        """Starts the workers and waits until every one is ready.

        Raises:
            WorkerFailure: they do not start; the reason is in the log.
        """
        with self._changed:
            for _ in range(self._count):
                self._start_worker()
            self._watch.start()
            self._changed.wait_for(self._settled, timeout=WORKER_START_TIMEOUT_S)
            self.check()
            if not self._settled():
                raise WorkerFailure(f"decoder processes are not ready after {WORKER_START_TIMEOUT_S:.0f} s")

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queues images; each ends in `deliver`, or rejected, or failed with its request."""
        with self._changed:
            if self._failure:
                for task in tasks:
                    task.request.fail(self._failure)
                return
            self._pending.add(tasks)
            self._dispatch()

    def release(self, batch: HostBatch) -> None:
        """Takes back the slots of a delivered batch."""
        with self._changed:
            self._slots.release(batch.first, len(batch))
            self._dispatch()

    def check(self) -> None:
        """Raises the ServerError that has ended the loader, if one has."""
        if self._failure:
            raise self._failure

    @property
    def at_work(self) -> bool:
        """Whether a worker has images in hand; the watch sees to it that it gets on with them."""
        with self._changed:
            return any(worker.chunks for worker in self._workers)

    def ahead_of(self, images: int) -> tuple[int, float]:
        """What comes before the last of so many new images of one request: how many, and the seconds to decode them."""
        with self._changed:
            in_hand = sum(len(chunk.tasks) for worker in self._workers for chunk in worker.chunks)
            ahead = in_hand + self._pending.ahead_of(images)
        return ahead, ahead * self._pace.seconds_per_image / self._count

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        with self._changed:
            return [worker.pid for worker in self._workers if worker.ready]

    def close(self) -> None:
        """Ends the workers; what has not been decoded fails with EngineClosed."""
        with self._changed:
            workers, self._workers = self._workers, []
            self._pending.add(task for worker in workers for chunk in worker.chunks for task in chunk.tasks)
            self._fail(EngineClosed("the engine was closed before the image was decoded"))
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSE_GRACE_S
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.end(deadline)
            worker.thread.join(_CLOSE_GRACE_S)  # it drops the DataLoader, and with it the semaphores of its queues

    # ---- handing out ------------------------------------------------------------------------------------------------
    # Everything from here on runs with `_changed` held, except the bodies of threads.

    def _dispatch(self) -> None:
        while self._pending and self._is_needed() and (worker := self._least_busy()):
            chunk = self._next_chunk()
            if chunk is None:  # all slots are taken: `release` comes back here
                return
            worker.hand_out(chunk)

    def _is_needed(self) -> bool:
        """Whether the device has less ready than it takes next.

        What is decoded further ahead has no turn any more: an image of another request would wait behind all of it.
        """
        return self._device.waiting < BATCHES_AHEAD * self._device.batch_size

    def _least_busy(self) -> WorkerProcess | None:
        idle = [worker for worker in self._workers if worker.ready and len(worker.chunks) < CHUNKS_PER_WORKER]
        return min(idle, key=lambda worker: worker.bytes_in_hand, default=None)

    def _next_chunk(self) -> Chunk | None:
        first, room = self._slots.take(self._chunk_size())
        tasks: list[Task] = []
        size = 0
        while self._pending and len(tasks) < room and size < CHUNK_BYTES:
            if tasks and self._pending.next.attempts:  # it travels alone
                break
            task = self._pending.pop()
            if task.request.abandoned:
                self.dropped += 1
                continue
            self._slots.write_encoded(first + len(tasks), task.image.data)
            tasks.append(task)
            size += len(task.image.data)
        self._slots.release(first + len(tasks), room - len(tasks))
        return Chunk(first, tasks, self.limits.max_image_pixels) if tasks else None

    def _chunk_size(self) -> int:
        """Guided self-scheduling: a share of what waits, so that all workers end together.

        Large chunks while much waits, small ones towards the end (Polychronopoulos and Kuck, 1987).
        """
        if self._pending.next.attempts:  # it may end its worker again: nothing travels with it
            return 1
        share = -(-len(self._pending) // (CHUNKS_PER_WORKER * self._count))
        return min(share, self._device.batch_size)

    # ---- what comes back --------------------------------------------------------------------------------------------

    def _decoded(self, worker: WorkerProcess, batch: HostBatch) -> None:
        """A chunk is done: its bad images are answered here, the others go to the device."""
        chunk = worker.take_back()
        for position, error in batch.errors.items():
            self._note_decoded(chunk, position)
            chunk.tasks[position].reject(error)
        self._hand_on(chunk, batch, [n for n in range(len(chunk.tasks)) if n not in batch.errors])
        self._dispatch()

    def _hand_on(self, chunk: Chunk, batch: HostBatch, positions: list[int]) -> None:
        for position in positions:
            self._note_decoded(chunk, position)
        for slot, task in enumerate(chunk.tasks, chunk.first):
            self._slots.trim_encoded(slot, len(task.image.data))
        self._slots.release(chunk.first + len(batch), len(chunk.tasks) - len(batch))
        if positions:
            self._device.put(batch, [chunk.tasks[position] for position in positions])

    def _note_decoded(self, chunk: Chunk, position: int) -> None:
        task = chunk.tasks[position]
        task.decode_s = float(self._slots.decode_ns[chunk.first + position]) * 1e-9
        task.decoded_at = time.perf_counter()
        self._pace.note(task.decode_s)

    # ---- life and death of workers ----------------------------------------------------------------------------------

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

    def _take(self, worker: WorkerProcess, record: WorkerReady | HostBatch) -> None:
        if isinstance(record, HostBatch):
            self._decoded(worker, record)
            return
        worker.is_ready(record.pid)
        self._failed_starts = 0
        self._changed.notify_all()
        self._dispatch()

    def _watch_workers(self) -> None:
        """Body of the watch. Without it a death or a worker that hangs would go unnoticed, so its own end is one."""
        try:
            while not self._failure:
                self._watch_once()
        except Exception:
            logger.exception("the watch over the decoder processes has ended")
            with self._changed:
                self._fail(WorkerFailure("the watch over the decoder processes has ended; the log says how"))

    def _watch_once(self) -> None:
        """Sees a worker's end when it happens. DataLoader itself looks every 5 s at best."""
        with self._changed:
            watched = {worker.pidfd: worker for worker in self._workers if worker.ready}
        poll = select.poll()
        for pidfd in watched:
            poll.register(pidfd, select.POLLIN)
        ended = [watched[pidfd] for pidfd, _ in poll.poll(_WATCH_PERIOD_MS)]
        with self._changed:
            for worker in ended:
                self._gone(worker)
            self._end_slow_workers()

    def _end_slow_workers(self) -> None:
        for worker in [worker for worker in self._workers if worker.chunks]:
            begun, since_ns = self._progress(worker)
            limit_s = self._decode_timeout_s if begun else CLAIM_TIMEOUT_S
            if time.monotonic_ns() - since_ns > limit_s * 1e9:
                worker.overdue = True
                self._gone(worker)

    def _progress(self, worker: WorkerProcess) -> tuple[bool, int]:
        """Whether it is decoding an image, and since when it has been at that, or at nothing."""
        chunk = worker.chunks[0]
        ours = slice(chunk.first, chunk.first + len(chunk.tasks))
        claims, started_ns = self._slots.claims[ours].copy(), self._slots.started_ns[ours]
        if (begun := claims == Claim.STARTED).any():
            return True, int(started_ns[begun].max())
        done = claims > Claim.STARTED
        ended_ns = started_ns[done] + self._slots.decode_ns[ours][done]
        return False, max(worker.turned_ns, int(ended_ns.max(initial=0)))

    def _gone(self, worker: WorkerProcess) -> None:
        """Replaces a worker that has ended, keeps what it had finished and blames what it had begun."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._failed_starts += not worker.ready
        worker.end(deadline=time.monotonic())
        for chunk in reversed(worker.chunks):
            self._salvage(chunk, overdue=worker.overdue)
        if self._failed_starts >= MAX_FAILED_STARTS:
            self._fail(WorkerFailure(f"{self._failed_starts} decoder processes in a row ended before they were ready"))
        else:
            why = "was ended, it made no progress" if worker.overdue else "ended"
            logger.warning("decoder process %s %s; starting another", worker.pid or "(not started)", why)
            self.replaced += 1
            self._start_worker()
            self._dispatch()
        self._changed.notify_all()

    def _salvage(self, chunk: Chunk, *, overdue: bool) -> None:
        kept: list[int] = []
        again: list[Task] = []
        for position, task in enumerate(chunk.tasks):
            claim = self._slots.claims[chunk.first + position]
            if claim == Claim.DECODED:
                kept.append(position)
            elif claim == Claim.STARTED and overdue:
                task.reject(SlowImage(f"decoding the image takes longer than the limit, {self._decode_timeout_s:g} s"))
            elif claim == Claim.STARTED and task.attempts:
                task.reject(FatalImage("the image ended the process that decoded it, and again when tried alone"))
            else:
                task.attempts += claim == Claim.STARTED
                again.append(task)
        self._pending.add_again(again)
        self._hand_on(chunk, self._slots.batch(chunk.first, len(kept)), kept)

    def _settled(self) -> bool:
        return self._failure is not None or all(worker.ready for worker in self._workers)

    def _fail(self, failure: ServerError) -> None:
        self._failure = self._failure or failure
        for task in self._pending:
            task.request.fail(self._failure)
        self._pending.clear()
