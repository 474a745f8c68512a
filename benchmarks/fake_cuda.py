"""A CUDA device that is the CPU: runs every line written for CUDA on a machine without one.

Imitated:
- results: everything that is asked of the device is computed, at once, by the CPU;
- page-locked memory: which addresses are registered, and that none is registered twice;
- graphs: the operators of a capture are written down and run again by `replay`, Python is not; what they wrote is
  spoilt after the capture, as a capture runs nothing; what waits for the device cannot be captured;
- order: each stream and event knows what it comes after, and two streams that use the same memory of the device in no
  particular order are a race (`FakeCuda.races`), though here nothing ever runs at the same time.

Not imitated: time, overlap, limits of memory, errors that come late, kernels that round in another way, and the host's
own reads and writes. Those need a GPU: `make gpu`.
"""

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FACTORIES: Final = (
    *("arange", "as_tensor", "empty", "empty_like", "eye", "full", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "zeros", "zeros_like"),
)
"""Functions of torch that make tensors, on the device where they are told to."""

WAITING: Final = tuple(f"aten.{name}" for name in ("_local_scalar_dense", "equal", "item", "masked_select", "nonzero"))
"""Operators that wait for the device: a stream that is captured refuses them."""

ALREADY_REGISTERED: Final = 712
NOT_REGISTERED: Final = 713

Clock = dict[int, int]
"""A vector clock: for each stream, by its number, the operations that come before an event."""


def _merge(clock: Clock, other: Clock) -> None:
    for stream, count in other.items():
        clock[stream] = max(clock.get(stream, 0), count)


class FakeCuda:
    """The device behind the patched functions of torch.

    Attributes:
        races: what two streams have done in no particular order, a sentence each.
    """

    def __init__(self) -> None:
        self.races: list[str] = []
        self.host: Clock = {}  # what the host has waited for
        self.streams: list[FakeStream] = []
        self.ranges: dict[int, int] = {}  # page-locked: address -> bytes
        self.memory: dict[int, Accesses] = {}  # by address, what was allocated on the device by a factory
        self.local = threading.local()
        self.default_stream = FakeStream(self)

    @property
    def stream(self) -> "FakeStream":
        """The current stream of this thread."""
        current: FakeStream = getattr(self.local, "stream", self.default_stream)
        return current

    def synchronize(self, _device: object = None) -> None:
        """The host waits for all streams."""
        for stream in self.streams:
            stream.synchronize()

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Tell whether the tensor lies in page-locked memory."""
        begin = tensor.data_ptr()
        return any(address <= begin < address + size for address, size in self.ranges.items())

    def register(self, address: int, size: int, _flags: int) -> int:
        """Page-locks memory where it lies (cudaHostRegister); returns CUDA's error code."""
        if any(address < other + room and other < address + size for other, room in self.ranges.items()):
            return ALREADY_REGISTERED
        self.ranges[address] = size
        return 0

    def unregister(self, address: int) -> int:
        """Undoes `register`; returns CUDA's error code."""
        return 0 if self.ranges.pop(address, None) is not None else NOT_REGISTERED

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, in memory that is page-locked from now on."""
        address = tensor.data_ptr()
        self.ranges[address] = max(1, tensor.nbytes)
        weakref.finalize(tensor, self.ranges.pop, address, None)
        return tensor

    def allocated(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor, as memory of the device whose use by streams is looked at from now on."""
        address = _address(tensor)
        self.memory[address] = Accesses()
        weakref.finalize(tensor, self.memory.pop, address, None)
        return tensor

    def note(self, operator: Any, arguments: Any, outputs: Any) -> None:
        """Takes down that an operator was queued on the current stream, and whom it may meet in memory."""
        stream = self.stream
        stream.tick()
        made = {_address(tensor) for tensor in _tensors(outputs)}
        for argument, value in zip(operator._schema.arguments, arguments, strict=False):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            for address in map(_address, _tensors(value)):
                is_view = not writes and address in made
                if (accesses := self.memory.get(address)) and not is_view:
                    self.races += accesses.conflicts(stream, str(operator), writes=writes)
        if _waits(operator):
            stream.synchronize()


class FakeStream:
    """A queue of operations, of which only the order is kept."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.number, self.clock = cuda, len(cuda.streams), Clock()
        cuda.streams.append(self)

    def tick(self) -> None:
        """One operation more, behind all that the host has waited for."""
        _merge(self.clock, self.cuda.host)
        self.clock[self.number] = self.clock.get(self.number, 0) + 1

    def wait_event(self, event: "FakeEvent") -> None:
        """Put later operations of this stream behind the event."""
        _merge(self.clock, event.clock)

    def wait_stream(self, other: "FakeStream") -> None:
        """Put later operations of this stream behind all that the other stream has been given so far."""
        _merge(self.clock, other.clock)

    def record_event(self, event: "FakeEvent | None" = None) -> "FakeEvent":
        """An event behind all that is on this stream now."""
        event = event or FakeEvent(self.cuda)
        event.record(self)
        return event

    def synchronize(self) -> None:
        """The host waits for all that is on this stream now."""
        _merge(self.cuda.host, self.clock)


class FakeEvent:
    """A place in the order of a stream."""

    def __init__(self, cuda: FakeCuda, enable_timing: bool = False, blocking: bool = False, **_: object) -> None:
        self.cuda, self.clock, self.at_s = cuda, Clock(), 0.0
        self.enable_timing, self.blocking = enable_timing, blocking

    def record(self, stream: FakeStream | None = None) -> None:
        """Moves it behind all that is on the stream now."""
        self.clock, self.at_s = dict((stream or self.cuda.stream).clock), time.perf_counter()

    def wait(self, stream: FakeStream | None = None) -> None:
        """Put later operations of the stream behind this event."""
        (stream or self.cuda.stream).wait_event(self)

    def synchronize(self) -> None:
        """The host waits for it."""
        _merge(self.cuda.host, self.clock)

    def query(self) -> bool:
        """Tell whether the event has happened: always, as the CPU computes at once."""
        return True

    def elapsed_time(self, later: "FakeEvent") -> float:
        """Milliseconds between two that were recorded."""
        if not (self.enable_timing and later.enable_timing and self.at_s and later.at_s):
            raise RuntimeError("both events must be created with enable_timing=True and be recorded")
        return max(1e-4, 1e3 * (later.at_s - self.at_s))


@dataclass(slots=True)
class Accesses:
    """Last uses of a piece of the device's memory: for each stream the number and the name of the operation."""

    reads: dict[int, tuple[int, str]] = field(default_factory=dict)
    writes: dict[int, tuple[int, str]] = field(default_factory=dict)

    def conflicts(self, stream: FakeStream, operator: str, *, writes: bool) -> list[str]:
        """Notes one more; returns those of others that may not be over by then, a sentence each."""
        earlier = [*self.writes.items(), *(self.reads.items() if writes else ())]
        found = [
            f"{operator} on stream {stream.number} may meet {name} on stream {other} in the same memory"
            for other, (count, name) in earlier
            if other != stream.number and stream.clock.get(other, 0) < count
        ]
        (self.writes if writes else self.reads)[stream.number] = stream.clock[stream.number], operator
        return found


class _Noting(TorchDispatchMode):
    """Tells the device of every operator that is queued on the current stream."""

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cuda = cuda

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        self._cuda.note(func, args, outputs)
        return outputs


@contextlib.contextmanager
def _on_stream(cuda: FakeCuda, stream: FakeStream | None) -> Iterator[None]:
    before = cuda.stream
    cuda.local.stream = stream or before
    try:
        with _Noting(cuda):
            yield
    finally:
        cuda.local.stream = before


class FakeGraph:
    """The operators of a capture. Of the tensors that they made it keeps, by number, those that somebody still has."""

    def __init__(self, **_: object) -> None:
        self._calls: list[tuple[Any, Any, Any, list[int]]] = []
        self._made: dict[int, torch.Tensor] = {}  # while it is captured
        self._kept: dict[int, weakref.ref[torch.Tensor]] = {}

    def record(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operator, and writes it down."""
        outputs = func(*args, **kwargs)
        numbers = {id(tensor): number for number, tensor in self._made.items()}
        call = tree_map(lambda value: _Made(numbers[id(value)]) if id(value) in numbers else value, (args, kwargs))
        made = []
        for tensor in _tensors(outputs):
            made.append(numbers.get(id(tensor), len(self._made)))
            if not any(tensor is argument for argument in _tensors(args)):
                self._made[made[-1]] = tensor
        self._calls.append((func, *call, made))
        return outputs

    def end(self) -> None:
        """Ends the capture. As nothing has run in one, what it computed is overwritten."""
        inputs = {address for _, args, kwargs, _ in self._calls for address in map(_address, _tensors((args, kwargs)))}
        for number, tensor in self._made.items():
            if _address(tensor) not in inputs:
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
            self._kept[number] = weakref.ref(tensor)
        self._made.clear()

    def replay(self) -> None:
        """Runs the operators again; what somebody has of their results is written anew."""
        fresh: dict[int, torch.Tensor] = {}
        for func, args, kwargs, made in self._calls:
            args, kwargs = _with(fresh, (args, kwargs))
            fresh |= zip(made, _tensors(func(*args, **kwargs)), strict=True)
        for number, tensor in fresh.items():
            kept = self._kept[number]() if number in self._kept else None
            if kept is not None and kept.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr():
                kept.copy_(tensor)


@dataclass(frozen=True, slots=True)
class _Made:
    """A tensor that an earlier operator of the same graph has made."""

    number: int


def _with(made: dict[int, torch.Tensor], values: Any) -> Any:
    """The values, with tensors in the place of their numbers."""
    return tree_map(lambda value: made[value.number] if isinstance(value, _Made) else value, values)


def _waits(operator: Any) -> bool:
    return str(operator).rpartition(".")[0] in WAITING


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Recorder(TorchDispatchMode):
    """Writes operators down."""

    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _waits(func):
            raise RuntimeError(f"{func} is not permitted when the stream is capturing")
        return self._graph.record(func, args, kwargs or {})


@contextlib.contextmanager
def _capture(cuda: FakeCuda, graph: FakeGraph, stream: FakeStream | None = None, **_: object) -> Iterator[None]:
    cuda.local.capturing = True
    try:
        with _on_stream(cuda, stream), _Recorder(graph):
            yield
    finally:
        cuda.local.capturing = False
    graph.end()


def _on_cpu(device: object) -> object:
    return "cpu" if str(device).startswith("cuda") else device


def _factory(cuda: FakeCuda, real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, **options: Any) -> torch.Tensor:
        on_device, pinned = str(options.get("device")).startswith("cuda"), options.pop("pin_memory", False)
        if "device" in options:
            options["device"] = _on_cpu(options["device"])
        tensor = real(*args, **options)
        if pinned:
            return cuda.pinned(tensor)
        return cuda.allocated(tensor) if on_device else tensor

    return made


def _moved(real: Callable[..., Any]) -> Callable[..., Any]:
    """`Tensor.to` and `Module.to`, where the device is the CPU."""

    def to(self: Any, *args: Any, **options: Any) -> Any:
        args = tuple(_on_cpu(value) if isinstance(value, str | torch.device) else value for value in args)
        if "device" in options:
            options["device"] = _on_cpu(options["device"])
        return real(self, *args, **options)

    return to


@contextlib.contextmanager
def pretend() -> Iterator[FakeCuda]:
    """Has torch believe in a CUDA device within the block, in all threads of this process."""
    cuda = FakeCuda()
    runtime = mock.Mock(cudaHostRegister=cuda.register, cudaHostUnregister=cuda.unregister)
    with contextlib.ExitStack() as stack:

        def patch(owner: Any, **names: Any) -> None:
            stack.enter_context(mock.patch.multiple(owner, **names))

        patch(torch, **{name: _factory(cuda, getattr(torch, name)) for name in FACTORIES})
        patch(torch.Tensor, to=_moved(torch.Tensor.to), cuda=lambda self, *_, **__: self)
        patch(torch.Tensor, is_pinned=lambda self, *_: cuda.is_pinned(self))
        patch(torch.Tensor, pin_memory=lambda self, *_: cuda.pinned(self.clone()))
        patch(torch.nn.Module, to=_moved(torch.nn.Module.to), cuda=lambda self, *_: self)
        patch(
            torch.cuda,
            is_available=lambda: True,
            device_count=lambda: 1,
            current_device=lambda: 0,
            set_device=lambda *_: None,
            get_device_name=lambda *_: "the CPU, posing as a CUDA device",
            get_device_capability=lambda *_: (9, 0),
            mem_get_info=lambda *_: (1 << 30, 2 << 30),
            empty_cache=lambda: None,
            synchronize=cuda.synchronize,
            current_stream=lambda *_: cuda.stream,
            default_stream=lambda *_: cuda.default_stream,
            Stream=lambda *_, **__: FakeStream(cuda),
            Event=lambda *args, **options: FakeEvent(cuda, *args, **options),
            stream=lambda stream: _on_stream(cuda, stream),
            CUDAGraph=FakeGraph,
            is_current_stream_capturing=lambda: getattr(cuda.local, "capturing", False),
            graph=lambda *args, **options: _capture(cuda, *args, **options),
            graph_pool_handle=object,
            cudart=lambda: runtime,
            _sleep=lambda cycles: None,  # noqa: ARG005 - there is nobody to keep busy
        )
        patch(
            torch.accelerator,
            is_available=lambda: True,
            current_accelerator=lambda *_, **__: torch.device("cuda"),
            current_device_index=lambda: 0,
            set_device_index=lambda _: None,
        )
        yield cuda
