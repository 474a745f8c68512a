"""Progress of a worker with the images in its hands, read from the claims that it writes into shared memory."""

import time
from dataclasses import dataclass

from pipeline.slots import Claim, Slots
from pipeline.task import Task
from pipeline.worker_process import Chunk, WorkerProcess


@dataclass(frozen=True, slots=True)
class InWork:
    """The image that a worker decodes just now."""

    task: Task | None  # None between two images
    since_ns: int  # when it began, or ended the one before, by `time.monotonic_ns`

    @property
    def for_s(self) -> float:
        """Seconds since then."""
        return (time.monotonic_ns() - self.since_ns) * 1e-9


def in_work(worker: WorkerProcess, slots: Slots) -> InWork:
    """The image that a worker with something in hand is decoding."""
    chunk = worker.chunks[0]
    ours = slice(chunk.first, chunk.first + len(chunk.tasks))
    claims, started_ns = slots.claims[ours].copy(), slots.started_ns[ours]
    if (begun := claims == Claim.STARTED).any():
        position = int(begun.argmax())
        return InWork(chunk.tasks[position], int(started_ns[position]))
    done = (claims == Claim.DECODED) | (claims == Claim.REJECTED)
    ended_ns = started_ns[done] + slots.decode_ns[ours][done]
    return InWork(None, max(worker.turned_ns, int(ended_ns.max(initial=0))))


def not_begun(chunk: Chunk, slots: Slots) -> list[int]:
    """Positions of the images of a chunk that still wait for the worker which has it."""
    claims = slots.claims[chunk.first : chunk.first + len(chunk.tasks)].copy()
    waiting = (claims == Claim.WAITING).nonzero()[0].tolist()
    return [position for position in waiting if position not in chunk.withdrawn]


def spent_s(chunk: Chunk, slots: Slots) -> float:
    """Seconds that a worker has spent on the images of a chunk so far, the one in work included."""
    ours = slice(chunk.first, chunk.first + len(chunk.tasks))
    claims = slots.claims[ours].copy()
    spent_ns = int(slots.decode_ns[ours][(claims == Claim.DECODED) | (claims == Claim.REJECTED)].sum())
    if (begun := claims == Claim.STARTED).any():
        spent_ns += time.monotonic_ns() - int(slots.started_ns[ours][begun].max())
    return spent_ns * 1e-9
