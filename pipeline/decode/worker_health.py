"""Whether a worker is still one: it may have ended, been stopped, not got ready, or be at something for too long."""

import select
import time
from collections.abc import Callable, Sequence

from pipeline.config import CLAIM_TIMEOUT_S, HANDED_OVER_AFTER_S, STOPPED_AFTER_S, WORKER_START_TIMEOUT_S
from pipeline.decode.worker_process import WorkerProcess
from pipeline.decode.worker_progress import InWork
from pipeline.task import Task


def ended(workers: Sequence[WorkerProcess], within_ms: int) -> list[WorkerProcess]:
    """Finds workers whose processes have ended; waits for the first one for so long."""
    watched = {worker.pidfd: worker for worker in workers}
    poll = select.poll()
    for pidfd in watched:
        poll.register(pidfd, select.POLLIN)
    return [watched[pidfd] for pidfd, _ in poll.poll(within_ms)]


def stopped(workers: Sequence[WorkerProcess]) -> list[WorkerProcess]:
    """Finds and marks workers that have been stopped (SIGSTOP) for longer than a moment; to be asked periodically."""
    found = [worker for worker in workers if worker.stopped_s() > STOPPED_AFTER_S]
    for worker in found:
        worker.stopped = True
    return found


def late_starters(workers: Sequence[WorkerProcess]) -> list[WorkerProcess]:
    """Finds workers that run and have not reported for duty in all the time that they have for it."""
    latest = time.monotonic() - WORKER_START_TIMEOUT_S
    return [worker for worker in workers if worker.pid and not worker.ready and worker.started_at < latest]


def exceeded_s(worker: WorkerProcess, now: InWork, decode_timeout_s: float, limit_s: Callable[[Task], float]) -> float:
    """The time limit that a worker with something in hand has exceeded; 0 where it has none.

    Work counts by the processor time that it has had: on a machine with much else to do, or in a container that may
    use little of it, any image can take long.

    Args:
        worker: it.
        now: what it is at.
        decode_timeout_s: limit of one image by the clock.
        limit_s: limit of an image by processor time.
    """
    most_s = len(worker.chunks[0].tasks) * decode_timeout_s + CLAIM_TIMEOUT_S
    if time.monotonic_ns() - worker.turned_ns > most_s * 1e9:  # whatever it writes into its claims
        return decode_timeout_s
    if now.task is None:
        return CLAIM_TIMEOUT_S if now.for_s > CLAIM_TIMEOUT_S else 0.0
    if now.for_s > decode_timeout_s:
        return decode_timeout_s
    limit = limit_s(now.task)
    return limit if now.for_s > HANDED_OVER_AFTER_S and worker.used_s(now.since_ns) > limit else 0.0


def why_gone(worker: WorkerProcess) -> str:
    """Says for the log why a worker is replaced."""
    if worker.stopped:
        return "was ended, somebody had stopped it (SIGSTOP)"
    return "was ended, it made no progress" if worker.overdue_s else "ended"
