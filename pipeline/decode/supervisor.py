"""The supervisor of the workers: finds those that have ended, hang or take long, and has them replaced or relieved."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from pipeline.bounds import HANDED_OVER_AFTER_S
from pipeline.decode.dispatcher import Dispatcher
from pipeline.decode.forkserver import look_after_forkserver
from pipeline.decode.slots import Slots
from pipeline.decode.worker_health import ended, exceeded_s, late_starters, stopped
from pipeline.decode.worker_pool import WorkerPool
from pipeline.decode.worker_process import WorkerProcess
from pipeline.decode.worker_progress import in_work
from pipeline.freezes import Freezes

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "decode"})

_LOOK_PERIOD_MS: Final = 50


class Supervisor:
    """Looks after the workers of a decode stage. DataLoader itself would notice a dead one after 5 s at best.

    Args:
        pool: the workers.
        dispatcher: hands out images; takes back those behind one that takes long.
        slots: the shared memory in which workers note what they have begun.
        changed: lock of the stage, which guards all of these.
        replace: function that ends a worker and starts another; called with the lock held.
        decode_timeout_s: limit of one image, in wall-clock time.
    """

    def __init__(
        self,
        pool: WorkerPool,
        dispatcher: Dispatcher,
        slots: Slots,
        changed: threading.Condition,
        replace: Callable[[WorkerProcess], None],
        *,
        decode_timeout_s: float,
    ) -> None:
        self._pool, self._dispatcher, self._slots, self._changed = pool, dispatcher, slots, changed
        self._replace, self._decode_timeout_s = replace, decode_timeout_s
        self._freezes = Freezes()

    @property
    def resumed_at(self) -> float:
        """End of the last time in which this process was frozen, by `time.monotonic`; 0 if it never was."""
        self._freezes.look()
        return self._freezes.resumed_at

    def look(self) -> None:
        """Look at all workers once, after waiting up to 50 ms for one that ends."""
        with self._changed:
            workers = [worker for worker in self._pool if worker.pid]
        lost = [*ended(workers, _LOOK_PERIOD_MS), *stopped(workers)]
        if done := look_after_forkserver():
            logger.warning("%s", done)
        resumed_at = self.resumed_at
        with self._changed:
            for worker in self._pool:
                worker.count_from(int(resumed_at * 1e9))
            late = late_starters([*self._pool])
            slow = self._slow_workers()
            if self.resumed_at != resumed_at:
                return  # a freeze has just ended, and these times include it
            for worker in [*lost, *late, *(worker for worker in slow if worker.overdue_s)]:
                self._replace(worker)
            for worker in slow:
                self._relieve(worker)

    def _slow_workers(self) -> list[WorkerProcess]:
        """Find workers whose image takes long, and note the time limit that each has exceeded, if any."""
        slow = []
        for worker in [worker for worker in self._pool if worker.chunks]:
            now = in_work(worker, self._slots)
            worker.overdue_s = exceeded_s(worker, now, self._decode_timeout_s, self._dispatcher.limit_s)
            if worker.overdue_s or now.for_s > HANDED_OVER_AFTER_S:
                slow.append(worker)
        return slow

    def _relieve(self, worker: WorkerProcess) -> None:
        """Give the images behind the one in work to other workers."""
        if worker in self._pool and self._pool.can_stand_in_for(worker):
            worker.held = True
            self._dispatcher.withdraw(worker.chunks)
            self._dispatcher.dispatch()
