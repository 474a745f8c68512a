"""Faults by role of a service's processes: kills, stops and hangs."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import httpx
import psutil

from harness.local_service import LocalService
from harness.roles import FORKSERVER, WORKER, with_role

Strike = Callable[[LocalService], object]
"""A function that harms a service."""


def one(role: str, number: signal.Signals) -> Strike:
    """Send a signal to the oldest process of that role."""
    return lambda service: with_role(service.run, role)[0].send_signal(number)


def every(role: str, number: signal.Signals) -> Strike:
    """Send a signal to all processes of that role, almost at once."""

    def strike(service: LocalService) -> None:
        for process in with_role(service.run, role):
            process.send_signal(number)

    return strike


def working(number: signal.Signals) -> Strike:
    """Send a signal to the decoder process that has worked the most."""
    return lambda service: _by_work(service)[-1].send_signal(number)


def spare(number: signal.Signals) -> Strike:
    """Send a signal to the decoder process that has worked the least."""
    return lambda service: _by_work(service)[0].send_signal(number)


def with_its_worker(number: signal.Signals) -> Strike:
    """Send a signal to the forkserver, then kill the worker that has worked the most."""

    def strike(service: LocalService) -> None:
        one(FORKSERVER, number)(service)
        time.sleep(0.5)
        with suppress(psutil.NoSuchProcess):
            _by_work(service)[-1].kill()

    return strike


def hang(part: str) -> Strike:
    """Make that part of a replica hang; its application must be that of `tests/faults/hanging.py`."""

    def strike(service: LocalService) -> None:
        with suppress(httpx.TransportError):
            httpx.post(f"{service.endpoint.url}/hang/{part}", timeout=0.5, trust_env=False).raise_for_status()

    return strike


def _by_work(service: LocalService) -> Sequence[psutil.Process]:
    return sorted(with_role(service.run, WORKER), key=lambda process: sum(process.cpu_times()[:2]))
