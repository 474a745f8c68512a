"""A worker that an image has taken over: it does in its process what the image says."""

import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline import worker
from pipeline.errors import UndecodableImage
from pipeline.pipe_queue import WorkerEnd
from pipeline.records import Transform
from tests.bench import CAT, TRANSFORM


class Act(Protocol):
    """A function that a worker knows by its name."""

    __name__: str

    def __call__(self) -> object:
        """Its outcome goes back as text."""


class TakenOver:
    """A transform whose arrival in a worker has it obey images.

    Args:
        acts: functions of a module's own, each of which `order` tells a worker to call.
    """

    def __init__(self, *acts: Act) -> None:
        self._acts = acts

    def __reduce__(self) -> tuple[Callable[..., Transform], tuple[Any, ...]]:
        """Runs as a worker starts."""
        return _obey, (TRANSFORM, {order(act): act for act in self._acts})


def order(act: Act) -> bytes:
    """An image that has its worker call `act`; the outcome is a rejection, with what it returned as its text."""
    return CAT + f"order {act.__name__}".encode()


def replicas_socket() -> socket.socket:
    """Where this worker's records go to the replica."""
    return _ends[0]._end


_ends: list[WorkerEnd] = []


def _obey(transform: Transform, acts: Mapping[bytes, Act]) -> Transform:
    decode, put = vars(worker)["decode"], WorkerEnd.put

    def obeying(data: memoryview, *rest: Any) -> Any:
        if act := acts.get(bytes(data)):
            raise UndecodableImage(str(act()))
        return decode(data, *rest)

    def noting(self: WorkerEnd, item: tuple[int, object]) -> None:
        _ends.append(self)
        put(self, item)

    vars(worker)["decode"] = obeying
    WorkerEnd.put = noting  # type: ignore[method-assign]
    return transform
