"""Clients in several processes: one Python process could not load eight replicas fully."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Self

from harness.load import Load, closed_loop
from harness.target import Form, Target


def processes_of_clients() -> int:
    """Return the number of client processes: one could not load eight replicas fully."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // 4))


class Clients:
    """Several processes of clients; a context manager.

    Args:
        processes: number of processes that share the clients of a load.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def closed_loop(
        self, target: Target, forms: Sequence[Form], *, clients: int, warm_up_s: float, for_s: float
    ) -> Load:
        """Run the load of `harness.load.closed_loop` in all processes together."""
        shares = [count for n in range(self.processes) if (count := (clients + n) // self.processes)]
        asked = [self._pool.submit(_asked, target, forms, share, warm_up_s, for_s) for share in shares]
        return together([future.result() for future in asked])


def together(loads: Sequence[Load]) -> Load:
    """Sum up the loads of all client processes."""
    return Load(
        loads[0].for_s,
        sent=sum(load.sent for load in loads),
        took_s=[took_s for load in loads for took_s in load.took_s],
        others=sum((load.others for load in loads), Counter[str]()),
        late_s=max(load.late_s for load in loads),
        clients_cores=sum(load.clients_cores for load in loads),
    )


def _asked(target: Target, forms: Sequence[Form], clients: int, warm_up_s: float, for_s: float) -> Load:
    return closed_loop(target, forms, clients=clients, warm_up_s=warm_up_s, for_s=for_s)
