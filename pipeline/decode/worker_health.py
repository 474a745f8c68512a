"""Finds unhealthy workers: ended, stopped, not ready in time, or over the time limit of an image."""

import select
import time
from collections.abc import Callable, Sequence

from pipeline.bounds import CLAIM_TIMEOUT_S, HANDED_OVER_AFTER_S, STOPPED_AFTER_S, WORKER_START_TIMEOUT_S
from pipeline.decode.worker_process import WorkerProcess
from pipeline.decode.worker_progress import InWork
from pipeline.task import Task


def ended(workers: Sequence[WorkerProcess], within_ms: int) -> list[WorkerProcess]:
    """Find workers whose processes have ended; wait up to `within_ms` for the first one."""
    watched = {worker.pidfd: worker for worker in workers}
    poll = select.poll()
    for pidfd in watched:
        poll.register(pidfd, select.POLLIN)
    return [watched[pidfd] for pidfd, _ in poll.poll(within_ms)]


def stopped(workers: Sequence[WorkerProcess]) -> list[WorkerProcess]:
    """Find and mark workers that have been stopped (SIGSTOP) for some time. To be called periodically."""
    found = [worker for worker in workers if worker.stopped_s() > STOPPED_AFTER_S]
    for worker in found:
        worker.stopped = True
    return found


def late_starters(workers: Sequence[WorkerProcess]) -> list[WorkerProcess]:
    """Find workers that run but have not reported ready within their time limit."""
    latest = time.monotonic() - WORKER_START_TIMEOUT_S
    return [worker for worker in workers if worker.pid and not worker.ready and worker.started_at < latest]


def exceeded_s(worker: WorkerProcess, now: InWork, decode_timeout_s: float, limit_s: Callable[[Task], float]) -> float:
    """Return the time limit that a worker has exceeded, in seconds; 0 if it is within its limits.

    The limit of an image is in processor time: on a busy machine, or in a container with a small CPU quota, any image
    can take long by the clock.

    Args:
        worker: a worker that holds a chunk.
        now: the image that it is decoding.
        decode_timeout_s: limit of one image in wall-clock time.
        limit_s: limit of an image in processor time.
    """
    most_s = len(worker.chunks[0].tasks) * decode_timeout_s + CLAIM_TIMEOUT_S
    if time.monotonic_ns() - worker.oldest_chunk_since_ns > most_s * 1e9:  # regardless of its claims
        return decode_timeout_s
    if now.task is None:
        return CLAIM_TIMEOUT_S if now.for_s > CLAIM_TIMEOUT_S else 0.0
    if now.for_s > decode_timeout_s:
        return decode_timeout_s
    limit = limit_s(now.task)
    return limit if now.for_s > HANDED_OVER_AFTER_S and worker.used_s(now.since_ns) > limit else 0.0


def why_gone(worker: WorkerProcess) -> str:
    """Describe for the log why a worker is replaced."""
    if worker.stopped:
        return "was ended, as it had been stopped (SIGSTOP)"
    return "was ended, as it made no progress" if worker.overdue_s else "ended"
