"""One worker, seen from the replica: its DataLoader, its pipe, and the chunks in its hands."""

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

from pipeline.config import CHUNKS_PER_WORKER
from pipeline.decode.forkserver import forked
from pipeline.decode.messages import DecodedPixels, DecodeResult, MalformedRecord, WorkerFault, WorkerReady
from pipeline.decode.pipe_queue import PipeQueues
from pipeline.decode.process_state import StoppedProcess
from pipeline.decode.slots import Slots
from pipeline.decode.worker import DecodeJob, DecodeJobs
from pipeline.records import Transform
from pipeline.task import Task


@dataclass(frozen=True, slots=True)
class DecodeChunk:
    """Images handed to a worker together, in adjacent slots."""

    first: int
    tasks: list[Task]
    max_pixels: int
    max_work_s: float
    price_s: float  # seconds that all of them should take, on the machine of the prices
    withdrawn: set[int] = field(default_factory=set)  # positions of those that another worker was given

    @property
    def costly(self) -> bool:
        """Whether it is one image that takes long: those travel alone."""
        return self.tasks[0].costly

    @property
    def job(self) -> DecodeJob:
        """What the worker is sent: the bytes themselves lie in the slots."""
        return DecodeJob(self.first, tuple(task.image.size for task in self.tasks), self.max_pixels, self.max_work_s)


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker's process runs; it has not reported for duty yet. Said by the replica's own side."""

    pid: int


class WorkerProcess:
    """A decoder process and the persistent DataLoader that runs it. Its owner guards it by a lock."""

    def __init__(self, slots: Slots, transform: Transform, *, pin_memory: bool) -> None:
        self.chunks: deque[DecodeChunk] = deque()  # the oldest first: the one that it works on
        self.turned_ns = 0  # when it could turn to the oldest chunk, by `time.monotonic_ns`
        self.pid, self.pidfd = 0, -1
        self.ready = False  # it has reported for duty
        self.started_at = time.monotonic()
        self.stopped = False  # it was ended because somebody had stopped it (SIGSTOP)
        self._state = StoppedProcess()
        self.overdue_s = 0.0  # the time limit at which it was ended; 0 where it was not
        self._asked_ns, self._had_used_s = 0, 0.0  # see `used_s`
        self.held = False  # it is at one image for so long that another takes what is behind it
        self.thread: threading.Thread  # of its owner: the one that takes its records
        self.distrusted = False  # it was ended because of what it sent
        self._reader, self._writer = Pipe(duplex=False)
        self._queues = PipeQueues(slots)
        self._loader: DataLoader[Any] = DataLoader(
            DecodeJobs(self._reader, slots, transform),
            batch_size=None,
            num_workers=1,
            prefetch_factor=CHUNKS_PER_WORKER + 2,  # more than it can have in hand: it never waits for an index
            multiprocessing_context=self._queues,
            persistent_workers=True,
            pin_memory=pin_memory,
        )

    @property
    def is_quick(self) -> bool:
        """Whether ordinary images need not wait long for it."""
        return self.ready and not self.held and not self.is_at_costly

    @property
    def is_at_costly(self) -> bool:
        """Whether it has an image in hand that takes long; nothing is put behind it."""
        return bool(self.chunks) and self.chunks[0].costly

    @property
    def price_in_hand_s(self) -> float:
        """Price of what has been handed out to it and has not come back."""
        return sum(chunk.price_s for chunk in self.chunks)

    def records(self) -> Iterator[WorkerStarted | WorkerReady | DecodedPixels | MalformedRecord]:
        """Starts the process, says so, and yields what comes from it, until it is asked to end.

        Raises:
            RuntimeError: an error in its own code has ended it; or, by DataLoader, it has died, up to 5 s later.
        """
        iterator = forked(lambda: iter(self._loader))
        yield WorkerStarted(self._queues.process.pid or 0)
        self._reader.close()  # now the worker alone reads: its death breaks the pipe
        try:
            for record in iterator:
                if isinstance(record, WorkerFault):
                    raise RuntimeError(f"error in a decoder process\n{record.text}")
                yield record.pin_memory() if isinstance(record, DecodeResult) else record
        finally:
            del iterator, self._loader  # a DataLoader ends its worker when it is dropped

    def has_started(self, pid: int) -> None:
        """Keeps hold of its process; one that has ended since then counts as one that never ran."""
        with suppress(ProcessLookupError):
            self.pidfd = os.pidfd_open(pid)
            self.pid = pid

    def stopped_s(self) -> float:
        """Seconds for which it has been seen stopped (SIGSTOP) by whoever calls this again and again."""
        return self._state.stopped_s(self.pid) if self.pid else 0.0

    def hand_out(self, chunk: DecodeChunk) -> None:
        """Sends it a chunk: a few hundred bytes, which never fill the pipe."""
        if not self.chunks:
            self.turned_ns = time.monotonic_ns()
        self.chunks.append(chunk)
        now = time.perf_counter()
        for task in chunk.tasks:
            task.handed_out_at = now
        with suppress(OSError):  # it has just died: the watch will find the chunk here
            self._writer.send(chunk.job)

    def has_in_hand(self, result: DecodedPixels) -> bool:
        """Whether a result is that of the oldest chunk: the slots that were handed out, and no other."""
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
        """The oldest chunk, which it has done; now it can turn to the next."""
        self.turned_ns, self.held = time.monotonic_ns(), False
        return self.chunks.popleft()

    def used_s(self, since_ns: int) -> float:
        """Processor seconds that it has used since this was first asked about the image that it began then."""
        with suppress(psutil.Error):  # it has just died
            times = psutil.Process(self.pid).cpu_times()
            if self._asked_ns != since_ns:
                self._asked_ns, self._had_used_s = since_ns, times.user + times.system
            return times.user + times.system - self._had_used_s
        return 0.0

    def ask_to_end(self) -> None:
        """Tells it to end after the chunks it has."""
        with suppress(OSError):
            self._writer.send(None)

    def end(self, deadline: float) -> None:
        """Waits for its end until `deadline` (of `time.monotonic`), then kills it."""
        self._writer.close()
        if self.pid:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.close(self.pidfd)
