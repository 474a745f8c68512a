"""A worker that an image has taken over: it runs the function that the image names."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pipeline.decode import worker
from pipeline.decode.pipe_queue import WorkerEnd
from pipeline.errors import UndecodableImage
from pipeline.records import Transform
from tests.support.decode_bench import CAT, TRANSFORM


class Act(Protocol):
    """A function that a worker knows by its name."""

    __name__: str

    def __call__(self) -> object:
        """Run; the outcome goes back as text."""


class TakenOver:
    """A transform that makes a worker obey images once it arrives there.

    Args:
        acts: module-level functions that `order` makes a worker call.
        transform: transform of all other images.
        arriving: called as the worker starts.
    """

    def __init__(
        self, *acts: Act, transform: Transform = TRANSFORM, arriving: Callable[[], object] | None = None
    ) -> None:
        self._acts, self._transform, self._arriving = acts, transform, arriving

    def __reduce__(self) -> tuple[Callable[..., Transform], tuple[Any, ...]]:
        """Run as a worker starts."""
        return _obey, (self._transform, {order(act): act for act in self._acts}, os.getpid(), self._arriving)


def order(act: Act) -> bytes:
    """Return an image that makes its worker call `act`; it is rejected, with the returned value as the message."""
    return CAT + f"order {act.__name__}".encode()


def replicas_socket() -> socket.socket:
    """Return the socket by which this worker's records go to the replica."""
    return _ends[0]._end


def replica() -> int:
    """Return the process id of the replica that has started this worker."""
    return _replica[0]


_ends: list[WorkerEnd] = []
_replica: list[int] = []


def _obey(
    transform: Transform, acts: Mapping[bytes, Act], replica: int, arriving: Callable[[], object] | None
) -> Transform:
    _replica.append(replica)
    if arriving:
        arriving()
    decode, put = vars(worker)["decode_image"], WorkerEnd.put

    def obeying(data: memoryview, *rest: Any, **users: Any) -> Any:
        if act := acts.get(bytes(data)):
            raise UndecodableImage(str(act()))
        return decode(data, *rest, **users)

    def noting(self: WorkerEnd, item: tuple[int, object]) -> None:
        _ends.append(self)
        put(self, item)

    vars(worker)["decode_image"] = obeying
    WorkerEnd.put = noting  # type: ignore[method-assign]
    return transform
