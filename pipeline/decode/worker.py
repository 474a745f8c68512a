"""Main loop of a worker process: receive a job, decode its images into their slots, report the result."""

import io
import os
import pickle
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from PIL import Image
from torch.utils.data import IterableDataset
from torch.utils.data._utils.worker import ManagerWatchdog

from pipeline.bounds import WORKER_NICENESS
from pipeline.decode.memory import FreedMemory, MemoryLimit, keep_freed_memory
from pipeline.decode.messages import DecodeResult, WorkerReady
from pipeline.decode.sandbox import close_inherited, enter_sandbox
from pipeline.decode.slots import Claim, Slots
from pipeline.errors import ImageError, TransformFailed
from pipeline.images.decode import decode_image
from pipeline.images.pillow import import_decoders
from pipeline.images.users_transform import UsersTransform
from pipeline.records import UserTransform, WorkerTransform

Image.init()  # once, in the forkserver; in its sandbox a worker may import nothing


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """Encoded images in adjacent slots, to be decoded in this order."""

    first: int
    sizes: tuple[int, ...]  # encoded bytes of each
    max_pixels: int
    max_work_s: float


class DecodeJobs(IterableDataset[WorkerReady | DecodeResult]):
    """Dataset of the jobs that the replica sends, decoded. None ends it; the end of the replica ends the process.

    Args:
        jobs: the reading end of a pipe of `DecodeJob`s that belongs to this worker alone. A queue shared by workers
            would stay locked for all when one of them is killed inside `get`.
        slots: shared memory with the images.
        transform: steps to apply to a decoded image.
    """

    def __init__(self, jobs: Connection, slots: Slots, transform: WorkerTransform) -> None:
        self._jobs, self._slots, self._transform = jobs, slots, transform
        self._users_own: UsersTransform | None = None

    def __iter__(self) -> Iterator[WorkerReady | DecodeResult]:
        """Yield `WorkerReady` once, then one `DecodeResult` for each job."""
        _prepare_process()
        if isinstance(self._transform, UserTransform):
            self._users_own = UsersTransform(pickle.loads(self._transform.pickled), self._slots.spec)  # noqa: S301 - the replica is trusted
        _warm_up(self._transform, self._users_own)
        memory, freed = MemoryLimit(), FreedMemory()
        yield WorkerReady(enter_sandbox())
        while job := self._next_job():
            memory.fit(job.max_pixels)
            yield self._do(job, freed)

    def _next_job(self) -> DecodeJob | None:
        try:
            job: DecodeJob | None = self._jobs.recv()
        except (EOFError, OSError):
            os._exit(0)  # the replica has ended, perhaps killed: no other process ends this one
        return job

    def _do(self, job: DecodeJob, freed: FreedMemory) -> DecodeResult:
        decoded, errors, skipped = 0, {}, set[int]()
        for position, size in enumerate(job.sizes):
            slot, started_ns = job.first + position, time.monotonic_ns()
            if self._slots.withdrawn[slot]:  # another worker decodes it
                self._slots.claims[slot] = Claim.SKIPPED
                skipped.add(position)
                continue
            self._slots.started_ns[slot] = started_ns
            self._slots.claims[slot] = Claim.STARTED
            try:
                data = self._slots.read_encoded(slot, size)
                image = decode_image(data, self._transform, job.max_pixels, job.max_work_s, self._users_own)
                self._slots.write_input(job.first + decoded, image.pixels)
                self._slots.shapes[slot] = image.width, image.height, image.orientation
                if self._users_own:
                    self._slots.transform_ns[slot] = self._users_own.took_ns
                decoded += 1
                claim = Claim.DECODED
            except ImageError as error:
                errors[position] = error.with_traceback(None)  # the traceback's frames would keep the image alive
                claim = Claim.REJECTED
            self._slots.decode_ns[slot] = time.monotonic_ns() - started_ns
            self._slots.claims[slot] = claim
            freed.give_back()
        return DecodeResult(job.first, decoded, errors, frozenset(skipped))


def _prepare_process() -> None:
    close_inherited()
    # DataLoader ends a worker whose parent has ended. But the parent is the forkserver, which may be replaced. The end
    # of the replica closes the pipes.
    ManagerWatchdog.is_alive = lambda _: True  # type: ignore[assignment, method-assign]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the replica, which closes the pipe
    warnings.simplefilter("ignore")  # Pillow warns of odd files, with a line for each
    keep_freed_memory()
    os.nice(WORKER_NICENESS)


def _warm_up(transform: WorkerTransform, users_own: UsersTransform | None) -> None:
    """Decode images, so that decoders, torch and user's code import and read files before the sandbox forbids it."""
    import_decoders(transform.formats)
    for width, height in _warm_up_sizes(transform):
        file = io.BytesIO()
        Image.new("RGB", (width, height)).save(file, transform.formats[0])
        with suppress(TransformFailed):  # the engine's test images tell whether the transform works here
            decode_image(file.getbuffer(), transform, width * height, users_own=users_own)


def _warm_up_sizes(transform: WorkerTransform) -> list[tuple[int, int]]:
    """Return widths and heights. User's code may take another way for a tall, a wide or a large picture."""
    if isinstance(transform, UserTransform):
        width, height = transform.blank_size
        return [(width, height), (height, width), (4 * width, 4 * height), (width // 4, height // 4)]
    width, height = transform.blank_size
    return [(2 * width, 2 * height)]
