"""Hands images out to the decoder processes, and processes their results."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from pipeline.bounds import CHUNKS_PER_WORKER, MIN_CHUNK_COST_S
from pipeline.decode.fair_queue import Backlog, FairQueue
from pipeline.decode.messages import DecodedPixels
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.worker_pool import LostChunk, WorkerPool
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.decode.worker_progress import decoding_s, not_begun, shape_of, spent_s
from pipeline.errors import DecoderCrashed, DecodeTimeout, ServerError, TransformFailed
from pipeline.images.cost import timeout_s
from pipeline.images.geometry import Geometry
from pipeline.live_limits import Limits
from pipeline.ready_queue import GiveBack, PixelBatch, ReadyQueue
from pipeline.records import UserTransform, WorkerTransform
from pipeline.task import Task
from pipeline.transform_cost import TransformCost

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "decode"})


class Dispatcher:
    """Connects backlog, slots, workers and the ready queue. Has no threads and no lock: the decode stage guards it.

    Args:
        pool: the workers.
        slots: shared memory for encoded and decoded images.
        transform: resize and crop that the workers apply.
        queue: queue for decoded batches.
        give_back: frees the slots of such a batch, from any thread.
        chunk_bytes: encoded bytes at which a chunk, the images handed to a worker together, is full.
        decode_timeout_s: the longest that decoding an image may take, whatever its cost.
        limits: the limits at the start; `limits` may be replaced at any time.

    Attributes:
        backlog: the images that wait for a worker.
        users_cost: learned time of a transform of the user's own; None if there is none.
        moved_at: when a worker last returned a chunk, or ended while it held one, by `time.monotonic`.
    """

    def __init__(
        self,
        pool: WorkerPool,
        slots: Slots,
        transform: WorkerTransform,
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
        self.users_cost = TransformCost() if isinstance(transform, UserTransform) else None
        self._ended_s = self._decoding_s = 0.0  # of returned chunks; the last value of `decoding_s`

    @property
    def decoding_s(self) -> float:
        """Seconds of decoding of all workers together, images in work included. Never falls.

        (An image that has ended since its claim was read counts slightly less than before; the maximum hides that.)
        """
        in_hand_s = sum(spent_s(chunk, self._slots) for chunk in self._pool.chunks)
        self._decoding_s = max(self._decoding_s, self._ended_s + in_hand_s)
        return self._decoding_s

    @property
    def most_decoding(self) -> int:
        """Most workers that decode images of one kind, ordinary or costly, while the model's threads are idle."""
        return max(self._pool.count, min(self._pool.size, self._queue.concurrent_batches))

    @property
    def in_work(self) -> int:
        """Number of images that are not decoded yet and whose requests still wait."""
        return self._pool.images + self.backlog.wanted

    def ahead_of(self, costs_s: Sequence[float]) -> tuple[int, float]:
        """Return the images, and seconds of work, ahead of the last of new images of one request at these costs."""
        ahead = self.backlog.ahead_of(costs_s)
        most = self.most_decoding  # whatever is in the ready queue now: a wait of seconds outlasts its state
        wait_s = self._pool.wait_s(ahead, most, self._most_at_costly(most), self.backlog.pace.ratio, self.limit_s)
        return self._pool.images + ahead.images, wait_s

    def limit_s(self, task: Task) -> float:
        """Return the seconds of one core after which decoding an image is ended, together with its worker."""
        return timeout_s(self.backlog.pace.ratio * task.cost_s, self._decode_timeout_s)

    # ---- handing out ------------------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Hand out as many images as possible; called after every change that may allow more."""
        while self._hand_out(self.backlog.ordinary, self._pool.for_ordinary, self._most_workers) or self._hand_out(
            self.backlog.costly, self._pool.for_costly, self._most_at_costly(self._most_workers)
        ):
            pass

    @property
    def _most_workers(self) -> int:
        """Most workers that decode images of one kind, ordinary or costly, now.

        While no decoded image waits for the model, its threads stand idle. Then spare workers use their cores, one for
        each thread, for as long as images are costly or many. A GPU has one thread, so workers keep to their number.
        """
        return self._pool.count if len(self._queue) else self.most_decoding

    def _most_at_costly(self, most: int) -> int:
        """Return the most workers that decode costly images: spare ones only while nobody sends ordinary images."""
        return most if self.backlog.is_costly_alone else self._pool.count

    def _hand_out(self, images: FairQueue, find: Callable[[int], WorkerProcess | None], most: int) -> bool:
        """Hand out the next images of a queue; return False if none wait, or no worker or slot is free.

        Args:
            images: the queue.
            find: chooses a worker, given the most workers that decode such images at a time.
            most: that number.
        """
        if not images or self._queue.capacity_left <= 0 or not (worker := find(most)):
            return False
        chunk = self._next_chunk(images)
        if chunk is not None:  # else all slots are taken: freeing some calls `dispatch` again
            worker.hand_out(chunk)
        return chunk is not None

    def _next_chunk(self, images: FairQueue) -> DecodeChunk | None:
        """Copy the next images of a queue into slots; return None if no slot is free, or no request waits for them."""
        first, taken = self._slots.take(self._chunk_size(images))
        tasks = self.backlog.take(images, taken, self._chunk_bytes)
        for slot, task in enumerate(tasks, first):
            self._slots.write_encoded(slot, *task.image.pieces)
        self._slots.release(first + len(tasks), taken - len(tasks))
        limits, cost_s = self.limits, sum(task.cost_s for task in tasks)
        return DecodeChunk(first, tasks, limits.max_image_pixels, limits.max_image_work_s, cost_s) if tasks else None

    def _chunk_size(self, images: FairQueue) -> int:
        """Return the size of the next chunk: a share of the waiting images, so that all workers end together.

        Guided self-scheduling: large chunks while many images wait, small ones towards the end (Polychronopoulos and
        Kuck, 1987). Towards the end cheap images still go together, but no worker gets more than its even share.
        """
        if images.next.costly or images.next.attempts:  # a retried image may end its worker again
            return 1
        share = -(-len(images) // (CHUNKS_PER_WORKER * self._most_workers))
        even = -(-(len(images) + self._pool.images) // self._most_workers)
        worth_it = math.ceil(MIN_CHUNK_COST_S / images.next.cost_s)
        return min(max(share, min(even, worth_it)), self._queue.batch_size)

    # ---- results --------------------------------------------------------------------------------------------

    def accept(self, chunk: DecodeChunk, result: DecodedPixels) -> None:
        """Process a finished chunk: reject its bad images, put the others into the ready queue."""
        self.moved_at = time.monotonic()
        for position, error in result.errors.items():
            self._note_decoded(chunk, position)
            if isinstance(error, TransformFailed):
                logger.warning("%s\n%s", error, error.trace)
            chunk.tasks[position].reject(error)
        left_out = result.skipped | result.errors.keys()
        self._hand_on(chunk, result.pixels, [n for n in range(len(chunk.tasks)) if n not in left_out])

    def withdraw(self, chunks: Iterable[DecodeChunk]) -> None:
        """Put the images that a slow worker has not begun back into the backlog, before all others.

        The worker may begin such an image at this very moment. Then two workers decode the image: the first result
        answers it, and the second one is ignored (`Task`). So no lock is shared with workers, which one could hold when
        it is killed.
        """
        again: list[Task] = []
        for chunk in chunks:
            for position in not_begun(chunk, self._slots):
                self._slots.withdrawn[chunk.first + position] = 1
                chunk.withdrawn.add(position)
                again.append(chunk.tasks[position])
        self.backlog.add_again(again)

    def salvage(self, lost: LostChunk) -> None:
        """Process a chunk whose worker has ended: keep its finished images, and blame the one that was begun."""
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
                    task.costly = True  # so that no ordinary image waits for it when it is tried alone
                again.append(task)
        self.backlog.add_again(again)
        self._ended_s -= sum(self._decoded_s(chunk, position) for position in kept)  # `_hand_on` adds them again
        self._hand_on(chunk, self._slots.tensor[chunk.first : chunk.first + len(kept)], kept)

    def _hand_on(self, chunk: DecodeChunk, pixels: Tensor, positions: Sequence[int]) -> None:
        """Put the decoded images of a chunk into the queue; their pixels fill its first slots without gaps."""
        for position in positions:
            self._note_decoded(chunk, position)
            self._note_transformed(chunk.first + position)
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
        self.backlog.pace.note(task.decode_s, task.cost_s)

    def _note_transformed(self, slot: int) -> None:
        if self.users_cost:
            width, height, _ = shape_of(slot, self._slots)
            took_s = min(self._slots.transform_ns[slot].item() * 1e-9, decoding_s(slot, self._slots))
            self.users_cost.note(width * height, max(0.0, took_s))

    def fail(self, failure: ServerError, in_hand: Iterable[DecodeChunk]) -> None:
        """Fail all waiting images, and those of chunks that workers will not return."""
        for task in (*self.backlog, *(task for chunk in in_hand for task in chunk.tasks)):
            task.request.fail(failure)
        self.backlog.clear()
