"""Hands images out to the decoder processes, and takes what becomes of them."""

import time
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from pipeline.config import CHUNKS_PER_WORKER, Limits
from pipeline.decode.fair_queue import Backlog, FairQueue
from pipeline.decode.messages import DecodedPixels
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.worker_pool import LostChunk, WorkerPool
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.decode.worker_progress import decoding_s, not_begun, shape_of, spent_s
from pipeline.errors import DecoderCrashed, DecodeTimeout, ServerError
from pipeline.images.geometry import Geometry
from pipeline.images.price import timeout_s
from pipeline.ready_queue import GiveBack, PixelBatch, ReadyQueue
from pipeline.records import Transform
from pipeline.task import Task


class Dispatcher:
    """Joins backlog, slots, workers and the ready queue. It has neither threads nor a lock: the decode stage guards it.

    Args:
        pool: the workers.
        slots: where images lie on both sides of decoding.
        transform: what the workers do with an image.
        queue: where decoded batches go.
        give_back: takes the slots of such a batch back, from any thread.
        chunk_bytes: encoded bytes at which what is handed to a worker at a time is full.
        decode_timeout_s: the most that decoding an image may take, whatever its price is.
        limits: the limits at the start; `limits` may be replaced at any time.

    Attributes:
        backlog: the images that wait for a worker.
        moved_at: when a chunk last came back, with or without its worker, by `time.monotonic`.
    """

    def __init__(
        self,
        pool: WorkerPool,
        slots: Slots,
        transform: Transform,
        queue: ReadyQueue,
        give_back: GiveBack,
        *,
        chunk_bytes: int,
        decode_timeout_s: float,
        limits: Limits,
    ) -> None:
        self.limits, self.backlog, self.moved_at = limits, Backlog(), 0.0
        self._pool, self._slots, self._transform = pool, slots, transform
        self._queue, self._give_back = queue, give_back
        self._chunk_bytes, self._decode_timeout_s = chunk_bytes, decode_timeout_s
        self._ended_s = self._decoding_s = 0.0  # of chunks that came back; as it was last told

    @property
    def decoding_s(self) -> float:
        """Seconds that all workers together have decoded, those of images in work included. It never falls.

        (An image that has ended since its claim was read counts a moment less than before.)
        """
        in_hand_s = sum(spent_s(chunk, self._slots) for chunk in self._pool.chunks)
        self._decoding_s = max(self._decoding_s, self._ended_s + in_hand_s)
        return self._decoding_s

    @property
    def in_work(self) -> int:
        """Images that somebody waits for and that are not decoded."""
        return self._pool.images + self.backlog.wanted

    def ahead_of(self, prices_s: Sequence[float]) -> tuple[int, float]:
        """Images, and seconds of work, that come before the last of new images of one request at these prices."""
        ahead = self.backlog.ahead_of(prices_s)
        return self._pool.images + ahead.images, self._pool.wait_s(ahead, self.backlog.pace.ratio, self.limit_s)

    def limit_s(self, task: Task) -> float:
        """Seconds of a processor core after which the decoding of an image is ended, with its worker."""
        return timeout_s(self.backlog.pace.ratio * task.price_s, self._decode_timeout_s)

    # ---- handing out ------------------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Hands out what can be: called whenever something has changed that may allow it."""
        while self._hand_out(self.backlog.ordinary, self._pool.for_ordinary) or self._hand_out(
            self.backlog.costly, self._pool.for_costly
        ):
            pass

    def _hand_out(self, images: FairQueue, find: Callable[[], WorkerProcess | None]) -> bool:
        """Hands out the next images of a queue; False where none wait, or nobody takes them now."""
        if not images or self._queue.room <= 0 or not (worker := find()):
            return False
        chunk = self._next_chunk(images)
        if chunk is not None:  # else all slots are taken: `release` calls again once some are free
            worker.hand_out(chunk)
        return chunk is not None

    def _next_chunk(self, images: FairQueue) -> DecodeChunk | None:
        """Takes the next images of a queue into slots; None where there is no free slot, or nobody waits for them."""
        first, room = self._slots.take(self._chunk_size(images))
        tasks = self.backlog.take(images, room, self._chunk_bytes)
        for slot, task in enumerate(tasks, first):
            self._slots.write_encoded(slot, *task.image.pieces)
        self._slots.release(first + len(tasks), room - len(tasks))
        limits, price_s = self.limits, sum(task.price_s for task in tasks)
        return DecodeChunk(first, tasks, limits.max_image_pixels, limits.max_image_work_s, price_s) if tasks else None

    def _chunk_size(self, images: FairQueue) -> int:
        """Guided self-scheduling: a share of what waits, so that all workers end together.

        Large chunks while much waits, small ones towards the end (Polychronopoulos and Kuck, 1987).
        """
        if images.next.costly or images.next.attempts:  # it may end its worker again: nothing travels with it
            return 1
        share = -(-len(images) // (CHUNKS_PER_WORKER * self._pool.count))
        return min(share, self._queue.batch_size)

    # ---- what comes back --------------------------------------------------------------------------------------------

    def accept(self, chunk: DecodeChunk, result: DecodedPixels) -> None:
        """A chunk is done: its bad images are answered here, the others go into the ready queue."""
        self.moved_at = time.monotonic()
        for position, error in result.errors.items():
            self._note_decoded(chunk, position)
            chunk.tasks[position].reject(error)
        left_out = result.skipped | result.errors.keys()
        self._hand_on(chunk, result.pixels, [n for n in range(len(chunk.tasks)) if n not in left_out])

    def withdraw(self, chunks: Iterable[DecodeChunk]) -> None:
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
        self.backlog.add_again(again)

    def salvage(self, lost: LostChunk) -> None:
        """A worker has ended: keeps what it had finished of a chunk and blames what it had begun."""
        chunk = lost.chunk
        self.moved_at = time.monotonic()
        self._ended_s += spent_s(chunk, self._slots)
        kept: list[int] = []
        again: list[Task] = []
        for position, (task, claim) in enumerate(zip(chunk.tasks, lost.claims, strict=True)):
            if claim == Claim.DECODED:
                kept.append(position)
            elif position in chunk.withdrawn:
                continue
            elif claim == Claim.STARTED and lost.overdue_s:
                task.reject(DecodeTimeout(f"decoding the image takes longer than the limit, {lost.overdue_s:.3g} s"))
            elif claim == Claim.STARTED and task.attempts:
                task.reject(DecoderCrashed("the image ended the process that decoded it, and again when tried alone"))
            else:
                if claim == Claim.STARTED:
                    task.attempts += 1
                    task.costly = True  # so that it holds nobody up when it is tried alone
                again.append(task)
        self.backlog.add_again(again)
        self._ended_s -= sum(self._decoded_s(chunk, position) for position in kept)  # noted as they are handed on
        self._hand_on(chunk, self._slots.tensor[chunk.first : chunk.first + len(kept)], kept)

    def _hand_on(self, chunk: DecodeChunk, pixels: Tensor, positions: Sequence[int]) -> None:
        """Puts the decoded images of a chunk into the queue: their pixels are the first of its slots, without gaps."""
        for position in positions:
            self._note_decoded(chunk, position)
        for slot, task in enumerate(chunk.tasks, chunk.first):
            self._slots.trim_encoded(slot, task.image.size)
        self._slots.release(chunk.first + len(positions), len(chunk.tasks) - len(positions))
        if positions:
            tasks = [chunk.tasks[position] for position in positions]
            geometry = [self._geometry(chunk.first + position) for position in positions]
            self._queue.put(PixelBatch(chunk.first, pixels, tasks, geometry, self._give_back))

    def _geometry(self, slot: int) -> Geometry:
        return Geometry(*shape_of(slot, self._slots), self._transform)

    def _decoded_s(self, chunk: DecodeChunk, position: int) -> float:
        return decoding_s(chunk.first + position, self._slots)

    def _note_decoded(self, chunk: DecodeChunk, position: int) -> None:
        task = chunk.tasks[position]
        task.decode_s = self._decoded_s(chunk, position)
        self._ended_s += task.decode_s
        task.decoded_at = time.perf_counter()
        self.backlog.pace.note(task.decode_s, task.price_s)

    def fail(self, failure: ServerError, in_hand: Iterable[DecodeChunk]) -> None:
        """Fails all that waits, and chunks in hand that will not come back."""
        for task in (*self.backlog, *(task for chunk in in_hand for task in chunk.tasks)):
            task.request.fail(failure)
        self.backlog.clear()
