"""Hands encoded images out to the decoder processes, and what they decoded on to the device."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pipeline.config import CHUNK_S, CHUNKS_PER_WORKER, Limits
from pipeline.decode.fair_queue import Turns
from pipeline.decode.sandbox import Closed
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.work_queue import Waiting
from pipeline.decode.worker_pool import Crew
from pipeline.decode.worker_process import Chunk, WorkerProcess
from pipeline.decode.worker_progress import decoding_s, not_begun, spent_s
from pipeline.errors import EngineClosed, FatalImage, ServerError, SlowImage
from pipeline.host_batch import HostBatch
from pipeline.images.price import timeout_s
from pipeline.records import Transform
from pipeline.task import Task


class Device(Protocol):
    """What takes the decoded images."""

    @property
    def batch_size(self) -> int:
        """Images that it takes at once."""

    @property
    def wanted(self) -> int:
        """Images that should wait for it, so that it does not wait for them."""

    @property
    def waiting(self) -> int:
        """Images that it has not taken yet."""

    def put(self, batch: HostBatch, tasks: list[Task]) -> None:
        """Queues images for it. Does not block."""


class Loader:
    """The decoder processes, the queue before them and the slots between them and the device.

    Args:
        workers: how many processes decode ordinary images at a time.
        spares: how many stand ready beside them.
        slots: where images lie on both sides of decoding.
        transform: what the workers do with an image.
        pin_memory: whether batches pass DataLoader's pin-memory thread, which hands page-locked views on.
        chunk_bytes: encoded bytes at which what is handed to a worker at a time is full.
        decode_timeout_s: the most that decoding an image may take, whatever its price is.
        limits: the limits at the start; `limits` may be replaced at any time.
        device: where decoded batches go, in a loader's thread. Their slots come back through `release`.
    """

    def __init__(
        self,
        workers: int,
        slots: Slots,
        transform: Transform,
        *,
        spares: int,
        pin_memory: bool,
        chunk_bytes: int,
        decode_timeout_s: float,
        limits: Limits,
        device: Device,
    ) -> None:
        self.limits = limits
        self.dropped = 0  # images that nobody waited for any more when their turn came
        self._count, self._slots, self._chunk_bytes = workers, slots, chunk_bytes
        self._decode_timeout_s, self._device = decode_timeout_s, device
        self._changed = threading.Condition()  # guards everything below
        self._waiting = Waiting()
        self._ended_s = self._decoding_s = 0.0  # of chunks that came back; as it was last told
        self._moved_at = 0.0  # when a chunk last came back, with or without its worker, by `time.monotonic`
        self._crew = Crew(
            workers,
            spares,
            slots,
            transform,
            pin_memory=pin_memory,
            decode_timeout_s=decode_timeout_s,
            changed=self._changed,
            owner=self,
        )

    def start(self) -> None:
        """Starts the workers and waits until every one is ready.

        Raises:
            WorkerFailure: they do not start; the reason is in the log.
        """
        self._crew.start()

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queues images; each ends in `deliver`, or rejected, or failed with its request."""
        with self._changed:
            if failure := self._crew.failure:
                for task in tasks:
                    task.request.fail(failure)
                return
            self._waiting.add(tasks)
            self.dispatch()

    def release(self, batch: HostBatch) -> None:
        """Takes back the slots of a delivered batch."""
        with self._changed:
            self._slots.release(batch.first, len(batch))
            self.dispatch()

    def check(self) -> None:
        """Raises the ServerError that has ended the loader, if one has."""
        self._crew.check()

    @property
    def at_work(self) -> bool:
        """Whether a worker has images in hand; the watch sees to it that it gets on with them."""
        with self._changed:
            return bool(self._crew.chunks)

    @property
    def moved_at(self) -> float:
        """When a worker last came back with images, or ended and left them, by `time.monotonic`."""
        return self._moved_at

    @property
    def decoding_s(self) -> float:
        """Seconds that all workers together have decoded, those of images in work included. It never falls.

        (An image that has ended since its claim was read counts a moment less than before.)
        """
        with self._changed:
            in_hand_s = sum(spent_s(chunk, self._slots) for chunk in self._crew.chunks)
            self._decoding_s = max(self._decoding_s, self._ended_s + in_hand_s)
            return self._decoding_s

    @property
    def free_slots(self) -> int:
        """Images that there is room for between decoding and the device."""
        with self._changed:
            return self._slots.free

    @property
    def replaced(self) -> int:
        """Workers that ended, or had to be ended."""
        return self._crew.replaced

    def ahead_of(self, prices_s: Sequence[float]) -> tuple[int, float]:
        """Images, and seconds of work, that come before the last of new images of one request at these prices."""
        with self._changed:
            ahead = self._waiting.ahead_of(prices_s)
            return self._in_hand + ahead.images, self._crew.wait_s(ahead, self._waiting.pace.ratio)

    @property
    def usual_price_s(self) -> float:
        """Price of an image whose header has not been read yet."""
        return self._waiting.pace.usual_price_s

    @property
    def in_work(self) -> int:
        """Images that somebody waits for and that are not decoded."""
        with self._changed:
            return self._in_hand + self._waiting.wanted

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        with self._changed:
            return self._crew.pids

    @property
    def closed_to_workers(self) -> Closed:
        """Names what the sandbox keeps from the workers."""
        return self._crew.closed

    def close(self) -> None:
        """Ends the workers; what has not been decoded fails with EngineClosed."""
        self._crew.close(EngineClosed("the engine was closed before the image was decoded"))

    # ---- handing out ------------------------------------------------------------------------------------------------
    # Everything from here on runs with `_changed` held.

    def dispatch(self) -> None:
        """Hands out what can be: called whenever something has changed that may allow it."""
        while self._hand_out(self._waiting.ordinary, self._crew.for_ordinary) or self._hand_out(
            self._waiting.costly, self._crew.for_costly
        ):
            pass

    def _hand_out(self, turns: Turns, find: Callable[[], WorkerProcess | None]) -> bool:
        """Hands out the next images of a queue; False where none wait, or nobody takes them now."""
        if not turns or not self._is_needed() or not (worker := find()):
            return False
        chunk = self._next_chunk(turns)
        if chunk is not None:  # else all slots are taken: `release` comes back here
            worker.hand_out(chunk)
        return chunk is not None

    @property
    def _in_hand(self) -> int:
        return sum(len(chunk.tasks) - len(chunk.withdrawn) for chunk in self._crew.chunks)

    def _is_needed(self) -> bool:
        """Whether the device has less ready than it wants.

        What is decoded further ahead has no turn any more: an image of another request would wait behind all of it.
        """
        return self._device.waiting < self._device.wanted

    def _next_chunk(self, turns: Turns) -> Chunk | None:
        first, room = self._slots.take(self._chunk_size(turns))
        tasks: list[Task] = []
        size, price_s = 0, 0.0
        while turns and len(tasks) < room and size < self._chunk_bytes:
            if tasks and (turns.next.attempts or price_s + turns.next.price_s > CHUNK_S):  # it travels alone, or next
                break
            task = turns.pop()
            if task.request.abandoned:
                self.dropped += 1
                continue
            self._slots.write_encoded(first + len(tasks), *task.image.pieces)
            tasks.append(task)
            size += task.image.size
            price_s += task.price_s
        self._slots.release(first + len(tasks), room - len(tasks))
        limits = self.limits
        return Chunk(first, tasks, limits.max_image_pixels, limits.max_image_work_s, price_s) if tasks else None

    def _chunk_size(self, turns: Turns) -> int:
        """Guided self-scheduling: a share of what waits, so that all workers end together.

        Large chunks while much waits, small ones towards the end (Polychronopoulos and Kuck, 1987).
        """
        if turns.next.costly or turns.next.attempts:  # it may end its worker again: nothing travels with it
            return 1
        share = -(-len(turns) // (CHUNKS_PER_WORKER * self._count))
        return min(share, self._device.batch_size)

    # ---- what comes back --------------------------------------------------------------------------------------------

    def limit_s(self, task: Task) -> float:
        """Seconds of a processor core after which the decoding of an image is ended, with its worker."""
        return timeout_s(self._waiting.pace.ratio * task.price_s, self._decode_timeout_s)

    def take(self, chunk: Chunk, batch: HostBatch) -> None:
        """A chunk is done: its bad images are answered here, the others go to the device."""
        self._moved_at = time.monotonic()
        for position, error in batch.errors.items():
            self._note_decoded(chunk, position)
            chunk.tasks[position].reject(error)
        left_out = batch.skipped | batch.errors.keys()
        self._hand_on(chunk, batch, [n for n in range(len(chunk.tasks)) if n not in left_out])

    def withdraw(self, chunks: Iterable[Chunk]) -> None:
        """A worker is slow: the images that it has not begun are put back, before all others.

        It may begin one at this very moment. Then two workers decode it: whichever is first answers it, and what
        comes second finds that nobody waits (`Task`). Hence no lock that a worker could take to its grave.
        """
        again: list[Task] = []
        for chunk in chunks:
            for position in not_begun(chunk, self._slots):
                self._slots.withdrawn[chunk.first + position] = 1
                chunk.withdrawn.add(position)
                again.append(chunk.tasks[position])
        self._waiting.add_again(again)

    def salvage(self, chunk: Chunk, claims: Sequence[int], *, overdue_s: float) -> None:
        """A worker has ended: keeps what it had finished of a chunk and blames what it had begun.

        Args:
            chunk: that it had in hand.
            claims: what it had done with each image.
            overdue_s: the time limit at which it was ended; 0 where it ended by itself.
        """
        self._moved_at = time.monotonic()
        self._ended_s += spent_s(chunk, self._slots)
        kept: list[int] = []
        again: list[Task] = []
        for position, (task, claim) in enumerate(zip(chunk.tasks, claims, strict=True)):
            if claim == Claim.DECODED:
                kept.append(position)
            elif position in chunk.withdrawn:
                continue
            elif claim == Claim.STARTED and overdue_s:
                task.reject(SlowImage(f"decoding the image takes longer than the limit, {overdue_s:.3g} s"))
            elif claim == Claim.STARTED and task.attempts:
                task.reject(FatalImage("the image ended the process that decoded it, and again when tried alone"))
            else:
                if claim == Claim.STARTED:
                    task.attempts += 1
                    task.costly = True  # so that it holds nobody up when it is tried alone
                again.append(task)
        self._waiting.add_again(again)
        self._ended_s -= sum(self._decoded_s(chunk, position) for position in kept)  # noted as they are handed on
        self._hand_on(chunk, self._slots.batch(chunk.first, len(kept)), kept)

    def fail(self, failure: ServerError, in_hand: Iterable[Chunk]) -> None:
        """Nothing is handed out any more, and of what is in hand these chunks do not come back."""
        for task in (*self._waiting, *(task for chunk in in_hand for task in chunk.tasks)):
            task.request.fail(failure)
        self._waiting.clear()

    def _hand_on(self, chunk: Chunk, batch: HostBatch, positions: list[int]) -> None:
        for position in positions:
            self._note_decoded(chunk, position)
        for slot, task in enumerate(chunk.tasks, chunk.first):
            self._slots.trim_encoded(slot, task.image.size)
        self._slots.release(chunk.first + len(batch), len(chunk.tasks) - len(batch))
        if positions:
            self._device.put(batch, [chunk.tasks[position] for position in positions])

    def _decoded_s(self, chunk: Chunk, position: int) -> float:
        return decoding_s(chunk.first + position, self._slots)

    def _note_decoded(self, chunk: Chunk, position: int) -> None:
        task = chunk.tasks[position]
        task.decode_s = self._decoded_s(chunk, position)
        self._ended_s += task.decode_s
        task.decoded_at = time.perf_counter()
        self._waiting.pace.note(task.decode_s, task.price_s)
