"""One worker, seen from the replica: its DataLoader, its pipe, and the chunks that it holds."""

import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any

import psutil
from torch.utils.data import DataLoader

from pipeline.bounds import CHUNKS_PER_WORKER
from pipeline.decode.forkserver import forked
from pipeline.decode.messages import DecodedPixels, MalformedRecord, WorkerFault, WorkerReady
from pipeline.decode.pipe_queue import PipeQueues
from pipeline.decode.process_state import StoppedProcess
from pipeline.decode.slots import Slots
from pipeline.decode.worker import DecodeJob, DecodeJobs
from pipeline.records import WorkerTransform
from pipeline.task import Task


@dataclass(frozen=True, slots=True)
class DecodeChunk:
    """Images handed to a worker together, in adjacent slots."""

    first: int
    tasks: list[Task]
    max_pixels: int
    max_work_s: float
    cost_s: float  # sum of the images' costs, in seconds
    withdrawn: set[int] = field(default_factory=set)  # positions of images that were put back for other workers

    @property
    def costly(self) -> bool:
        """True if the chunk is a single costly image; a costly image always has a chunk of its own."""
        return self.tasks[0].costly

    @property
    def job(self) -> DecodeJob:
        """Job to send to the worker; the encoded bytes are in the slots."""
        return DecodeJob(self.first, tuple(task.image.size for task in self.tasks), self.max_pixels, self.max_work_s)


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker's process has started, but is not ready yet. Comes from the replica's side, not from the worker."""

    pid: int


class WorkerProcess:
    """A decoder process and the persistent DataLoader that runs it. The owner guards it by a lock."""

    def __init__(self, slots: Slots, transform: WorkerTransform) -> None:
        self.chunks: deque[DecodeChunk] = deque()  # oldest first: the worker decodes that one
        self.oldest_chunk_since_ns = 0  # when it could begin the oldest chunk, by `time.monotonic_ns`
        self.pid, self.pidfd = 0, -1
        self.ready = False  # it has reported ready
        self.started_at = time.monotonic()
        self.stopped = False  # it was ended because it had been stopped (SIGSTOP)
        self._state = StoppedProcess()
        self.overdue_s = 0.0  # the time limit that it has exceeded; 0 if none
        self._asked_ns, self._had_used_s = 0, 0.0  # see `used_s`
        self.held = False  # its image takes so long that other workers get the images behind
        self.thread: threading.Thread | None = None  # the owner's thread that reads its records
        self.distrusted = False  # it was ended because of what it sent
        self._reader, self._writer = Pipe(duplex=False)
        self._queues = PipeQueues(slots)
        self._loader: DataLoader[Any] = DataLoader(
            DecodeJobs(self._reader, slots, transform),
            batch_size=None,
            num_workers=1,
            prefetch_factor=CHUNKS_PER_WORKER + 2,  # more than the chunks that it can hold: it never waits for an index
            multiprocessing_context=self._queues,
            persistent_workers=True,
            # The slots are page-locked already: DataLoader's pin-memory thread would only take the interpreter once for
            # every record.
            pin_memory=False,
        )

    @property
    def is_quick(self) -> bool:
        """True if the worker is ready and busy with neither a costly image nor one that takes long."""
        return self.ready and not self.held and not self.is_at_costly

    @property
    def is_at_costly(self) -> bool:
        """True if the worker holds a costly image; it gets no further chunk meanwhile."""
        return bool(self.chunks) and self.chunks[0].costly

    @property
    def cost_in_hand_s(self) -> float:
        """Cost of all images that the worker holds, in seconds."""
        return sum(chunk.cost_s for chunk in self.chunks)

    def records(self) -> Iterator[WorkerStarted | WorkerReady | DecodedPixels | MalformedRecord]:
        """Start the process, yield `WorkerStarted`, then yield the records of the process until it is asked to end.

        Raises:
            RuntimeError: an error in the worker's code has ended it; or DataLoader reports, up to 5 s late, its death.
        """
        iterator = forked(lambda: iter(self._loader))
        yield WorkerStarted(self._queues.process.pid or 0)
        self._reader.close()  # now only the worker has the reading end: its death breaks the pipe
        try:
            for record in iterator:
                if isinstance(record, WorkerFault):
                    raise RuntimeError(f"error in a decoder process\n{record.text}")
                yield record
        finally:
            del iterator, self._loader  # a DataLoader ends its worker when it is deleted

    def has_started(self, pid: int) -> None:
        """Keep the pid and a pidfd of the process; a process that has already ended counts as not started."""
        with suppress(ProcessLookupError):
            self.pidfd = os.pidfd_open(pid)
            self.pid = pid

    def stopped_s(self) -> float:
        """Return the seconds for which repeated calls have seen the process stopped (SIGSTOP)."""
        return self._state.stopped_s(self.pid) if self.pid else 0.0

    def hand_out(self, chunk: DecodeChunk) -> None:
        """Send the worker a chunk: a few hundred bytes, which never fill the pipe."""
        if not self.chunks:
            self.oldest_chunk_since_ns = time.monotonic_ns()
        self.chunks.append(chunk)
        now = time.perf_counter()
        for task in chunk.tasks:
            task.handed_out_at = now
        with suppress(OSError):  # it has just died: the supervising thread will find the chunk here
            self._writer.send(chunk.job)

    def has_in_hand(self, result: DecodedPixels) -> bool:
        """Return whether a result is one of the worker's oldest chunk: for exactly the slots that were handed out."""
        if not self.chunks:
            return False
        chunk = self.chunks[0]
        images = len(chunk.tasks)
        left_out = result.skipped | result.errors.keys()
        return (
            result.first == chunk.first
            and len(result.pixels) + len(result.errors) + len(result.skipped) == images
            and len(left_out) == len(result.errors) + len(result.skipped)
            and all(position < images for position in result.errors)
            and result.skipped <= chunk.withdrawn
        )

    def take_back(self) -> DecodeChunk:
        """Remove and return the oldest chunk, which is done; now the worker can begin the next."""
        self.oldest_chunk_since_ns, self.held = time.monotonic_ns(), False
        return self.chunks.popleft()

    def count_from(self, resumed_ns: int) -> None:
        """Count the time that it was given from the end of a freeze of this process, if that was later."""
        self.oldest_chunk_since_ns = max(self.oldest_chunk_since_ns, resumed_ns)
        self.started_at = max(self.started_at, resumed_ns * 1e-9)

    def used_s(self, since_ns: int) -> float:
        """Return the processor seconds used since the first call about the image that was begun at `since_ns`."""
        with suppress(psutil.Error):  # it has just died
            times = psutil.Process(self.pid).cpu_times()
            if self._asked_ns != since_ns:
                self._asked_ns, self._had_used_s = since_ns, times.user + times.system
            return times.user + times.system - self._had_used_s
        return 0.0

    def ask_to_end(self) -> None:
        """Tell the worker to end after the chunks that it holds."""
        with suppress(OSError):
            self._writer.send(None)

    def end(self, deadline: float) -> None:
        """Wait for the end of the process until `deadline` (by `time.monotonic`), then kill it."""
        self._writer.close()
        if self.pid:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.close(self.pidfd)
