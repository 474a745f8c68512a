"""Progress of a worker with the images in its hands, read from the claims that it writes into shared memory."""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.decode.slots import Claim, Slots
from pipeline.decode.worker_process import DecodeChunk, WorkerProcess
from pipeline.task import Task

_ORIENTATIONS: Final = 8
"""EXIF orientations are 1 to 8; 1 is upright."""


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
    claims, started_ns, decode_ns = _ledger(chunk, slots)
    if (begun := claims == Claim.STARTED).any():
        position = int(begun.argmax())
        return InWork(chunk.tasks[position], int(started_ns[position]))
    done = (claims == Claim.DECODED) | (claims == Claim.REJECTED)
    ended_ns = started_ns[done] + decode_ns[done]
    return InWork(None, max(worker.turned_ns, int(ended_ns.max(initial=0))))


def not_begun(chunk: DecodeChunk, slots: Slots) -> list[int]:
    """Positions of the images of a chunk that still wait for the worker which has it."""
    claims = slots.claims[chunk.first : chunk.first + len(chunk.tasks)].copy()
    waiting = (claims == Claim.WAITING).nonzero()[0].tolist()
    return [position for position in waiting if position not in chunk.withdrawn]


def spent_s(chunk: DecodeChunk, slots: Slots) -> float:
    """Seconds that a worker has spent on the images of a chunk so far, the one in work included."""
    claims, started_ns, decode_ns = _ledger(chunk, slots)
    spent_ns = int(decode_ns[(claims == Claim.DECODED) | (claims == Claim.REJECTED)].sum())
    if (begun := claims == Claim.STARTED).any():
        spent_ns += time.monotonic_ns() - int(started_ns[begun].max())
    return spent_ns * 1e-9


def decoding_s(slot: int, slots: Slots) -> float:
    """Seconds that the last image of a slot took, as its worker says; no more than have passed since it began."""
    passed_ns = time.monotonic_ns() - int(slots.started_ns[slot])
    return max(0, min(int(slots.decode_ns[slot]), passed_ns)) * 1e-9


def shape_of(slot: int, slots: Slots) -> tuple[int, int, int]:
    """Width, height and EXIF orientation of the last image of a slot, as its worker says; none is below 1."""
    width, height, orientation = slots.shapes[slot].tolist()
    return max(1, width), max(1, height), orientation if 1 <= orientation <= _ORIENTATIONS else 1


def _ledger(chunk: DecodeChunk, slots: Slots) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Claims, begins and durations of a chunk's images, read once; a worker may have written times that cannot be."""
    ours = slice(chunk.first, chunk.first + len(chunk.tasks))
    now_ns = time.monotonic_ns()
    started_ns = slots.started_ns[ours].clip(0, now_ns)
    return slots.claims[ours].copy(), started_ns, slots.decode_ns[ours].clip(0, now_ns - started_ns)
