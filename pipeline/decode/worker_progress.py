"""Progress of a worker with the images that it holds, read from its claims in shared memory."""

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
    """The image that a worker is decoding."""

    task: Task | None  # None between two images
    # When it was begun, or the one before it ended, or this process was last frozen, by `time.monotonic_ns`.
    since_ns: int

    @property
    def for_s(self) -> float:
        """Seconds since then."""
        return (time.monotonic_ns() - self.since_ns) * 1e-9


def in_work(worker: WorkerProcess, slots: Slots) -> InWork:
    """Return the image that a worker is decoding. The worker must hold a chunk."""
    chunk = worker.chunks[0]
    claims, started_ns, decode_ns = _ledger(chunk, slots)
    if (begun := claims == Claim.STARTED).any():
        position = int(begun.argmax())
        return InWork(chunk.tasks[position], max(worker.oldest_chunk_since_ns, int(started_ns[position])))
    done = (claims == Claim.DECODED) | (claims == Claim.REJECTED)
    ended_ns = started_ns[done] + decode_ns[done]
    return InWork(None, max(worker.oldest_chunk_since_ns, int(ended_ns.max(initial=0))))


def not_begun(chunk: DecodeChunk, slots: Slots) -> list[int]:
    """Return the positions of images in a chunk that its worker has not begun."""
    claims = slots.claims[chunk.first : chunk.first + len(chunk.tasks)].copy()
    waiting = (claims == Claim.WAITING).nonzero()[0].tolist()
    return [position for position in waiting if position not in chunk.withdrawn]


def spent_s(chunk: DecodeChunk, slots: Slots) -> float:
    """Return the seconds that a worker has spent on the images of a chunk so far, the one in work included."""
    claims, started_ns, decode_ns = _ledger(chunk, slots)
    spent_ns = int(decode_ns[(claims == Claim.DECODED) | (claims == Claim.REJECTED)].sum())
    if (begun := claims == Claim.STARTED).any():
        spent_ns += time.monotonic_ns() - int(started_ns[begun].max())
    return spent_ns * 1e-9


def decoding_s(slot: int, slots: Slots) -> float:
    """Return the seconds that a slot's last image took, as its worker reports; at most the time since its start."""
    passed_ns = time.monotonic_ns() - int(slots.started_ns[slot])
    return max(0, min(int(slots.decode_ns[slot]), passed_ns)) * 1e-9


def shape_of(slot: int, slots: Slots) -> tuple[int, int, int]:
    """Return width, height and EXIF orientation of a slot's last image, as its worker reports; all at least 1."""
    width, height, orientation = slots.shapes[slot].tolist()
    return max(1, width), max(1, height), orientation if 1 <= orientation <= _ORIENTATIONS else 1


def _ledger(chunk: DecodeChunk, slots: Slots) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return claims, start times and durations of a chunk's images, read once; impossible times are bounded.

    A worker writes the time before the claim, so the claims are read first. A claim read last could belong to an image
    that was begun since, beside the start time of the image that had the slot before: decoding would seem to take ages.
    """
    ours = slice(chunk.first, chunk.first + len(chunk.tasks))
    claims, now_ns = slots.claims[ours].copy(), time.monotonic_ns()
    started_ns = slots.started_ns[ours].clip(0, now_ns)
    return claims, started_ns, slots.decode_ns[ours].clip(0, now_ns - started_ns)
