"""The order of operations on fake streams, and races: two uses of the same memory without a defined order.

Each stream and event has a vector clock (Mattern, Virtual time and global states of distributed systems, 1989).
"""

import contextlib
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.fake_graph import address_of, tensors, waits

Clock = dict[int, int]
"""A vector clock: the number of operations that come before an event, by stream number."""


def _merge(clock: Clock, other: Clock) -> None:
    for stream, count in other.items():
        clock[stream] = max(clock.get(stream, 0), count)


class Order:
    """The streams of a device, and the memory that they use.

    Attributes:
        races: uses of memory by two streams without a defined order, one sentence each.
    """

    def __init__(self) -> None:
        self.races: list[str] = []
        self.host: Clock = {}  # operations that the host has waited for
        self.streams: list[FakeStream] = []
        self.memory: dict[int, Accesses] = {}  # by address: device memory allocated by a factory function
        self.local = threading.local()
        self.default_stream = FakeStream(self)

    @property
    def stream(self) -> "FakeStream":
        """The current stream of this thread."""
        current: FakeStream = getattr(self.local, "stream", self.default_stream)
        return current

    def synchronize(self, _device: object = None) -> None:
        """Make the host wait for all streams."""
        for stream in self.streams:
            stream.synchronize()

    def allocated(self, tensor: torch.Tensor) -> torch.Tensor:
        """Register a tensor's memory, so that its use by streams is checked from now on; return the tensor."""
        address = address_of(tensor)
        self.memory[address] = Accesses()
        weakref.finalize(tensor, self.memory.pop, address, None)
        return tensor

    def note(self, operator: Any, arguments: Any, outputs: Any) -> None:
        """Record an operator on the current stream, and the races that it may cause."""
        stream = self.stream
        stream.tick()
        made = {address_of(tensor) for tensor in tensors(outputs)}
        for argument, value in zip(operator._schema.arguments, arguments, strict=False):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            for address in map(address_of, tensors(value)):
                is_view = not writes and address in made
                if (accesses := self.memory.get(address)) and not is_view:
                    self.races += accesses.conflicts(stream, str(operator), writes=writes)
        if waits(operator):
            stream.synchronize()


class FakeStream:
    """A queue of operations that only keeps their order."""

    def __init__(self, order: Order) -> None:
        self.order, self.number, self.clock = order, len(order.streams), Clock()
        order.streams.append(self)

    def tick(self) -> None:
        """Add an operation, after everything that the host has waited for."""
        _merge(self.clock, self.order.host)
        self.clock[self.number] = self.clock.get(self.number, 0) + 1

    def wait_event(self, event: "FakeEvent") -> None:
        """Order later operations of this stream after the event."""
        _merge(self.clock, event.clock)

    def wait_stream(self, other: "FakeStream") -> None:
        """Order later operations of this stream after all operations of the other stream so far."""
        _merge(self.clock, other.clock)

    def record_event(self, event: "FakeEvent | None" = None) -> "FakeEvent":
        """Record an event after all operations of this stream so far."""
        event = event or FakeEvent(self.order)
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Make the host wait for all operations of this stream so far."""
        _merge(self.order.host, self.clock)


class FakeEvent:
    """A position in the order of a stream."""

    def __init__(self, order: Order, enable_timing: bool = False, blocking: bool = False, **_: object) -> None:
        self.order, self.clock, self.at_s = order, Clock(), 0.0
        self.enable_timing, self.blocking = enable_timing, blocking

    def record(self, stream: FakeStream | None = None) -> None:
        """Move the event after all operations of the stream so far."""
        self.clock, self.at_s = dict((stream or self.order.stream).clock), time.perf_counter()

    def wait(self, stream: FakeStream | None = None) -> None:
        """Order later operations of the stream after this event."""
        (stream or self.order.stream).wait_event(self)

    def synchronize(self) -> None:
        """Make the host wait for the event."""
        _merge(self.order.host, self.clock)

    def query(self) -> bool:
        """Return True: the event has always happened, as the CPU computes at once."""
        return True

    def elapsed_time(self, later: "FakeEvent") -> float:
        """Return the milliseconds between two recorded events."""
        if not (self.enable_timing and later.enable_timing and self.at_s and later.at_s):
            raise RuntimeError("both events must be created with enable_timing=True and be recorded")
        return max(1e-4, 1e3 * (later.at_s - self.at_s))


@dataclass(slots=True)
class Accesses:
    """Last uses of a piece of device memory: number and name of the operation, for each stream."""

    reads: dict[int, tuple[int, str]] = field(default_factory=dict)
    writes: dict[int, tuple[int, str]] = field(default_factory=dict)

    def conflicts(self, stream: FakeStream, operator: str, *, writes: bool) -> list[str]:
        """Note a use; return the uses by other streams that may run at the same time, one sentence each."""
        earlier = [*self.writes.items(), *(self.reads.items() if writes else ())]
        found = [
            f"{operator} on stream {stream.number} may meet {name} on stream {other} in the same memory"
            for other, (count, name) in earlier
            if other != stream.number and stream.clock.get(other, 0) < count
        ]
        (self.writes if writes else self.reads)[stream.number] = stream.clock[stream.number], operator
        return found


class _Noting(TorchDispatchMode):
    """Notes every operator that is queued on the current stream."""

    def __init__(self, order: Order) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._order = order

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        self._order.note(func, args, outputs)
        return outputs


@contextlib.contextmanager
def on_stream(order: Order, stream: FakeStream | None) -> Iterator[None]:
    """Queue this thread's operations on that stream within the block."""
    before = order.stream
    order.local.stream = stream or before
    try:
        with _Noting(order):
            yield
    finally:
        order.local.stream = before
