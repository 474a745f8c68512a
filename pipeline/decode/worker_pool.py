"""The decoder processes: which one takes an image, and what is lost with one that ends.

Each worker has a persistent `torch.utils.data.DataLoader` of its own (`num_workers=1`), fed through a pipe of its own.
One DataLoader over all workers cannot do this: it asks its sampler for the next index before it returns a finished
result, so a live sampler deadlocks it; a queue shared by workers stays locked when one is killed inside `get`; and a
dead worker is noticed only after 5 s without any data, which under load is never. Here a death costs one worker, is
seen at once, and is blamed on the image that the worker had begun.

One process more stands ready than decode ordinary images at a time. An image that takes long, because of its price or
against it, holds its process for as long as it takes. So of all processes one is kept from costly images: whoever has
an ordinary one finds a process that takes it at once.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config import CHUNKS_PER_WORKER, MAX_UNBLAMED_DEATHS
from pipeline.decode.fair_queue import Ahead
from pipeline.decode.sandbox import Closed
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.wait_forecast import WaitForecast
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.records import Transform
from pipeline.task import Task


@dataclass(frozen=True, slots=True)
class LostChunk:
    """A chunk whose worker has ended before it was done."""

    chunk: DecodeChunk
    claims: list[int]  # of `Claim`, one an image: how far the worker had come with it
    overdue_s: float  # the time limit at which the worker was ended; 0 where it ended by itself


class WorkerPool:
    """So many decoder processes, and spare ones. It has neither threads nor a lock: the decode stage guards it.

    Args:
        count: how many decode ordinary images at a time.
        spares: how many processes stand ready beside them.
        slots: where images lie on both sides of decoding.
        transform: what the workers do with an image.
        pin_memory: whether results pass DataLoader's pin-memory thread, as on CUDA.

    Attributes:
        replaced: workers that ended, or had to be ended.
        failed_starts: workers in a row that ended before they were ready.
        closed: to the workers, by their sandbox; nothing before they are ready.
    """

    def __init__(self, count: int, spares: int, slots: Slots, transform: Transform, *, pin_memory: bool) -> None:
        self.replaced = self.failed_starts = 0
        self.closed = Closed(0)
        self.count, self.size = count, count + spares
        self._slots, self._transform, self._pin_memory = slots, transform, pin_memory
        self._workers: list[WorkerProcess] = []

    def __contains__(self, worker: WorkerProcess) -> bool:
        """Whether the worker has not been removed."""
        return worker in self._workers

    def __iter__(self) -> Iterator[WorkerProcess]:
        """All workers, also those that are not ready yet; others may be removed meanwhile."""
        return iter([*self._workers])

    @property
    def chunks(self) -> list[DecodeChunk]:
        """All that workers have in hand."""
        return [chunk for worker in self._workers for chunk in worker.chunks]

    @property
    def images(self) -> int:
        """How many images workers have in hand; those that were withdrawn are not counted."""
        return sum(len(chunk.tasks) - len(chunk.withdrawn) for chunk in self.chunks)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready, spare ones included."""
        return [worker.pid for worker in self._workers if worker.ready]

    @property
    def all_ready(self) -> bool:
        """Whether every worker has reported for duty."""
        return all(worker.ready for worker in self._workers)

    # ---- coming and going -------------------------------------------------------------------------------------------

    def add(self) -> WorkerProcess:
        """Adds a worker; its process starts when its records are read."""
        worker = WorkerProcess(self._slots, self._transform, pin_memory=self._pin_memory)
        self._workers.append(worker)
        return worker

    def note_ready(self, worker: WorkerProcess, closed: Closed) -> None:
        """A worker has reported for duty, and said what its sandbox closes."""
        worker.ready, self.closed, self.failed_starts = True, closed, 0

    def remove(self, worker: WorkerProcess) -> list[LostChunk]:
        """Ends a worker; returns what it had in hand, the newest chunk first."""
        self._workers.remove(worker)
        self.failed_starts += not worker.ready and not worker.stopped
        worker.end(deadline=time.monotonic())
        return [LostChunk(chunk, self._claims(worker, chunk), worker.overdue_s) for chunk in reversed(worker.chunks)]

    def clear(self) -> list[WorkerProcess]:
        """Removes all workers, for their owner to end."""
        workers, self._workers = self._workers, []
        return workers

    def _claims(self, worker: WorkerProcess, chunk: DecodeChunk) -> list[int]:
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

    # ---- who takes an image -----------------------------------------------------------------------------------------

    def for_ordinary(self) -> WorkerProcess | None:
        """The worker that should take the next ordinary images, if one can.

        No more than `count` are at ordinary images at a time; those that are held up by one do not count.
        """
        at_it = [worker for worker in self._workers if worker.is_quick and worker.chunks]
        able = [worker for worker in at_it if len(worker.chunks) < CHUNKS_PER_WORKER]
        if len(at_it) < self.count:
            able += [worker for worker in self._workers if worker.is_quick and not worker.chunks]
        return min(able, key=lambda worker: worker.price_in_hand_s, default=None)

    def for_costly(self) -> WorkerProcess | None:
        """The worker that should take the next costly image, if one can: an idle one, while another stays free."""
        quick = [worker for worker in self._workers if worker.is_quick]
        idle = [worker for worker in quick if not worker.chunks]
        return idle[-1] if idle and (len(quick) > 1 or len(self._workers) == 1) else None

    def can_stand_in_for(self, slow: WorkerProcess) -> bool:
        """Whether another worker can take what a slow one has not begun."""
        return any(worker.is_quick for worker in self._workers if worker is not slow)

    def wait_s(self, ahead: Ahead, ratio: float, limit_s: Callable[[Task], float]) -> float:
        """Seconds until workers should turn to images behind so much, where images take `ratio` times their price."""
        forecast = WaitForecast(self._workers, ratio, lambda chunk: limit_s(chunk.tasks[0]))
        ordinary_s = 0.0 if ahead.ordinary_s is None else forecast.ordinary_s(ahead.ordinary_s, self.count)
        costly_s = 0.0 if ahead.costly_s is None else forecast.costly_s(ahead.costly_s)
        return max(ordinary_s, costly_s)
