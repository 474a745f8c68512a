"""The worker pool: chooses the decoder process for an image, and finds the images lost with one that ends.

Each worker has a persistent `torch.utils.data.DataLoader` of its own (`num_workers=1`), fed through a pipe of its own.
One DataLoader over all workers cannot do this: it asks its sampler for the next index before it returns a finished
result, so a live sampler deadlocks it; a queue shared by workers stays locked when one is killed inside `get`; and a
dead worker is noticed only after 5 s without any data, which under load is never. Here a death costs one worker, is
seen at once, and is blamed on the image that the worker had begun.

Spare processes are ready beside those that decode ordinary images. An image that takes long, by its cost or
unexpectedly, occupies its process for all that time. So one of all processes is kept free of costly images: a new
ordinary image always finds a process that takes it at once.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.bounds import CHUNKS_PER_WORKER, MAX_UNBLAMED_DEATHS
from pipeline.decode.fair_queue import Ahead
from pipeline.decode.sandbox import Closed
from pipeline.decode.slots import Claim, Slots
from pipeline.decode.wait_forecast import WaitForecast
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.records import WorkerTransform
from pipeline.task import Task


@dataclass(frozen=True, slots=True)
class LostChunk:
    """A chunk whose worker has ended before it was done."""

    chunk: DecodeChunk
    claims: list[int]  # of `Claim`, one for each image: the worker's progress with it
    overdue_s: float  # the time limit that the worker had exceeded; 0 if none


class WorkerPool:
    """The decoder processes, spare ones included. Has no threads and no lock: the decode stage guards it.

    Args:
        count: number of processes that decode ordinary images at a time, while the model has images to compute.
        spares: number of spare processes beside them.
        slots: shared memory for encoded and decoded images.
        transform: resize and crop that the workers apply.

    Attributes:
        replaced: workers that ended, or had to be ended.
        failed_starts: workers in a row that ended before they were ready.
        closed: access that the sandbox denies the workers; empty before one is ready.
    """

    def __init__(self, count: int, spares: int, slots: Slots, transform: WorkerTransform) -> None:
        self.replaced = self.failed_starts = 0
        self.closed = Closed(0)
        self.count, self.size = count, count + spares
        self._slots, self._transform = slots, transform
        self._workers: list[WorkerProcess] = []

    def __contains__(self, worker: WorkerProcess) -> bool:
        """Return whether the worker is in the pool, i.e. has not been removed."""
        return worker in self._workers

    def __iter__(self) -> Iterator[WorkerProcess]:
        """Iterate over all workers, also those that are not ready yet. Workers may be removed meanwhile."""
        return iter([*self._workers])

    @property
    def chunks(self) -> list[DecodeChunk]:
        """All chunks that workers hold."""
        return [chunk for worker in self._workers for chunk in worker.chunks]

    @property
    def images(self) -> int:
        """Number of images that workers hold, without withdrawn ones."""
        return sum(len(chunk.tasks) - len(chunk.withdrawn) for chunk in self.chunks)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready, spare ones included."""
        return [worker.pid for worker in self._workers if worker.ready]

    @property
    def all_ready(self) -> bool:
        """True if every worker has reported ready."""
        return all(worker.ready for worker in self._workers)

    # ---- adding and removing ----------------------------------------------------------------------------------------

    def add(self) -> WorkerProcess:
        """Add a worker; its process starts when its records are read."""
        worker = WorkerProcess(self._slots, self._transform)
        self._workers.append(worker)
        return worker

    def note_ready(self, worker: WorkerProcess, closed: Closed) -> None:
        """Mark a worker as ready, and keep the access that its sandbox denies."""
        worker.ready, self.closed, self.failed_starts = True, closed, 0

    def remove(self, worker: WorkerProcess) -> list[LostChunk]:
        """End a worker; return the chunks that it held, the newest first."""
        self._workers.remove(worker)
        self.failed_starts += not worker.ready and not worker.stopped
        worker.end(deadline=time.monotonic())
        return [LostChunk(chunk, self._claims(worker, chunk), worker.overdue_s) for chunk in reversed(worker.chunks)]

    def clear(self) -> list[WorkerProcess]:
        """Remove all workers and return them, for the owner to end them."""
        workers, self._workers = self._workers, []
        return workers

    def _claims(self, worker: WorkerProcess, chunk: DecodeChunk) -> list[int]:
        """Return the worker's claims on the images of a chunk.

        If the worker sent an invalid record, all images of its oldest chunk count as begun. If the worker was stopped
        (SIGSTOP), no image is blamed for having been begun.
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

    # ---- choosing a worker -------------------------------------------------------------------------------------------

    def for_ordinary(self, most: int) -> WorkerProcess | None:
        """Return the worker that should take the next ordinary images; None if none can.

        Args:
            most: most workers that decode ordinary images at a time, without those whose image takes long.
        """
        at_it = [worker for worker in self._workers if worker.is_quick and worker.chunks]
        able = [worker for worker in at_it if len(worker.chunks) < CHUNKS_PER_WORKER]
        if len(at_it) < most:
            able += [worker for worker in self._workers if worker.is_quick and not worker.chunks]
        return min(able, key=lambda worker: worker.cost_in_hand_s, default=None)

    def for_costly(self, most: int) -> WorkerProcess | None:
        """Return an idle worker for the next costly image; None if none can take it.

        None also if no other worker would stay free for ordinary images.

        Args:
            most: most workers that decode costly images at a time.
        """
        quick = [worker for worker in self._workers if worker.is_quick]
        idle = [worker for worker in quick if not worker.chunks]
        at_it = sum(worker.is_at_costly for worker in self._workers)
        return idle[-1] if idle and at_it < most and (len(quick) > 1 or len(self._workers) == 1) else None

    def can_stand_in_for(self, slow: WorkerProcess) -> bool:
        """Return whether another worker can take the images that a slow one has not begun."""
        return any(worker.is_quick for worker in self._workers if worker is not slow)

    def wait_s(
        self, ahead: Ahead, most: int, most_at_costly: int, ratio: float, limit_s: Callable[[Task], float]
    ) -> float:
        """Forecast the seconds until workers reach new images.

        Args:
            ahead: the work that waits ahead of them.
            most: most workers that decode ordinary images at a time.
            most_at_costly: most workers that decode costly images at a time.
            ratio: decoding time divided by cost.
            limit_s: time limit of an image.
        """
        forecast = WaitForecast(self._workers, ratio, lambda chunk: limit_s(chunk.tasks[0]))
        ordinary_s = 0.0 if ahead.ordinary_s is None else forecast.ordinary_s(ahead.ordinary_s, most)
        costly_s = 0.0 if ahead.costly_s is None else forecast.costly_s(ahead.costly_s, most_at_costly)
        return max(ordinary_s, costly_s)
