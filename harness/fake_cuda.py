"""A fake CUDA device on the CPU: runs every line written for CUDA on a machine without a GPU.

Imitated:
- results: the CPU computes every operation of the device at once;
- page-locked memory: which addresses are registered, and that none is registered twice;
- graphs: the operators of a capture are recorded, and `replay` runs them again without the Python code; their results
  are overwritten after the capture, as a real capture computes nothing; an operator that waits for the device cannot be
  captured;
- order: each stream and event knows which operations come before it; two streams that use the same device memory
  without a defined order are a race (`Order.races`), though here nothing really runs at the same time.

Not imitated: time, overlap, limits of memory, delayed errors, kernels that round differently, and the host's own reads
and writes. Those need a GPU: `make gpu`.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

import torch

from harness.fake_graph import FakeGraph, OperatorRecorder
from harness.fake_order import FakeEvent, FakeStream, Order, on_stream

FACTORIES: Final = (
    *("arange", "as_tensor", "empty", "empty_like", "eye", "full", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "zeros", "zeros_like"),
)
"""Functions of torch that make tensors on a given device."""

ALREADY_REGISTERED: Final = 712
NOT_REGISTERED: Final = 713


class FakeCuda:
    """The device behind the patched functions of torch.

    Attributes:
        order: order of operations on its streams.
    """

    def __init__(self) -> None:
        self.order = Order()
        self._ranges: dict[int, int] = {}  # page-locked: address -> bytes

    @property
    def races(self) -> list[str]:
        """Uses of memory by two streams without a defined order, one sentence each."""
        return self.order.races

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Return whether the tensor is in page-locked memory."""
        begin = tensor.data_ptr()
        return any(address <= begin < address + size for address, size in self._ranges.items())

    def register(self, address: int, size: int, _flags: int) -> int:
        """Page-locks existing memory (cudaHostRegister); returns CUDA's error code."""
        if any(address < other + room and other < address + size for other, room in self._ranges.items()):
            return ALREADY_REGISTERED
        self._ranges[address] = size
        return 0

    def unregister(self, address: int) -> int:
        """Undo `register`; return CUDA's error code."""
        return 0 if self._ranges.pop(address, None) is not None else NOT_REGISTERED

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        """Page-locks the memory of a tensor; returns the tensor."""
        address = tensor.data_ptr()
        self._ranges[address] = max(1, tensor.nbytes)
        weakref.finalize(tensor, self._ranges.pop, address, None)
        return tensor


@contextlib.contextmanager
def _capture(cuda: FakeCuda, graph: FakeGraph, stream: FakeStream | None = None, **_: object) -> Iterator[None]:
    cuda.order.local.capturing = True
    try:
        with on_stream(cuda.order, stream), OperatorRecorder(graph):
            yield
    finally:
        cuda.order.local.capturing = False
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
        return cuda.order.allocated(tensor) if on_device else tensor

    return made


def _moved(real: Callable[..., Any]) -> Callable[..., Any]:
    """Copy on the CPU, in place of `Tensor.to` and `Module.to`."""

    def to(self: Any, *args: Any, **options: Any) -> Any:
        args = tuple(_on_cpu(value) if isinstance(value, str | torch.device) else value for value in args)
        if "device" in options:
            options["device"] = _on_cpu(options["device"])
        return real(self, *args, **options)

    return to


@contextlib.contextmanager
def pretend() -> Iterator[FakeCuda]:
    """Make torch see a CUDA device within the block, in all threads of this process."""
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
            synchronize=cuda.order.synchronize,
            current_stream=lambda *_: cuda.order.stream,
            default_stream=lambda *_: cuda.order.default_stream,
            Stream=lambda *_, **__: FakeStream(cuda.order),
            Event=lambda *args, **options: FakeEvent(cuda.order, *args, **options),
            stream=lambda stream: on_stream(cuda.order, stream),
            CUDAGraph=FakeGraph,
            is_current_stream_capturing=lambda: getattr(cuda.order.local, "capturing", False),
            graph=lambda *args, **options: _capture(cuda, *args, **options),
            graph_pool_handle=object,
            cudart=lambda: runtime,
            _sleep=lambda cycles: None,  # noqa: ARG005 - there is no device to keep busy
        )
        patch(
            torch.accelerator,
            is_available=lambda: True,
            current_accelerator=lambda *_, **__: torch.device("cuda"),
            current_device_index=lambda: 0,
            set_device_index=lambda _: None,
        )
        yield cuda
