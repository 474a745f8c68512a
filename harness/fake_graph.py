"""A fake CUDA graph: records the operators of a capture; `replay` runs them again without the Python code."""

import weakref
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

WAITING_OPERATORS: Final = tuple(
    f"aten.{name}" for name in ("_local_scalar_dense", "equal", "item", "masked_select", "nonzero")
)
"""Operators that wait for the device: a capture refuses them."""


class FakeGraph:
    """The operators of a capture, and those of their output tensors that are still referenced, by number.

    As in CUDA, memory from outside the capture, such as the weights, is not kept alive.
    """

    def __init__(self, **_: object) -> None:
        self._calls: list[tuple[Any, Any, Any, list[int]]] = []
        self._made: dict[int, torch.Tensor] = {}  # during the capture
        self._kept: dict[int, weakref.ref[torch.Tensor]] = {}

    def record(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run and record an operator."""
        outputs = func(*args, **kwargs)
        numbers = {id(tensor): number for number, tensor in self._made.items()}

        def placeholder(value: Any) -> Any:
            if id(value) in numbers:
                return _MadeTensor(numbers[id(value)])
            # CUDA takes a single number, which may come from the host, as an argument of the kernel.
            return OutsideTensor.of(value) if isinstance(value, torch.Tensor) and value.numel() > 1 else value

        call = tree_map(placeholder, (args, kwargs))
        made = []
        for tensor in tensors(outputs):
            made.append(numbers.get(id(tensor), len(self._made)))
            if not any(tensor is argument for argument in tensors(args)):
                self._made[made[-1]] = tensor
        self._calls.append((func, *call, made))
        return outputs

    def end(self) -> None:
        """End the capture; overwrite its results, as a real capture computes nothing."""
        leaves = [leaf for _, args, kwargs, _ in self._calls for leaf in tree_leaves((args, kwargs))]
        inputs = {leaf.address for leaf in leaves if isinstance(leaf, OutsideTensor)}
        inputs |= {address_of(leaf) for leaf in tensors(leaves)}
        for number, tensor in self._made.items():
            if address_of(tensor) not in inputs:
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
            self._kept[number] = weakref.ref(tensor)
        self._made.clear()

    def replay(self) -> None:
        """Run the operators again, and update their referenced results.

        Raises:
            MemoryFreed: the graph reads memory that has been freed since the capture.
        """
        fresh: dict[int, torch.Tensor] = {}
        for func, args, kwargs, made in self._calls:
            args, kwargs = _with_made(fresh, (args, kwargs))
            fresh |= zip(made, tensors(func(*args, **kwargs)), strict=True)
        for number, tensor in fresh.items():
            kept = self._kept[number]() if number in self._kept else None
            if kept is not None and kept.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr():
                kept.copy_(tensor)


@dataclass(frozen=True, slots=True)
class _MadeTensor:
    """Placeholder for a tensor made by an earlier operator of the same graph."""

    number: int


class MemoryFreed(Exception):
    """A graph reads memory that was freed after its capture: CUDA would compute with whatever is there."""


@dataclass(frozen=True, slots=True)
class OutsideTensor:
    """Placeholder for a tensor from outside the capture; does not keep its memory alive."""

    storage: StorageWeakRef
    address: int
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Self:
        """Make the placeholder of a tensor."""
        storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        offset = int(tensor.storage_offset())
        return cls(storage, address_of(tensor), tensor.dtype, tensor.shape, tensor.stride(), offset)

    def tensor(self) -> torch.Tensor:
        """Return the tensor, with the present content of its memory.

        Raises:
            MemoryFreed: nothing refers to the memory any more.
        """
        storage = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
        if storage is None:
            raise MemoryFreed(f"the graph reads a tensor of shape {list(self.shape)} that nothing refers to any more")
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.shape, self.stride)


def _with_made(made: dict[int, torch.Tensor], values: Any) -> Any:
    """Replace placeholders in values by their tensors."""

    def tensor(value: Any) -> Any:
        if isinstance(value, OutsideTensor):
            return value.tensor()
        return made[value.number] if isinstance(value, _MadeTensor) else value

    return tree_map(tensor, values)


class OperatorRecorder(TorchDispatchMode):
    """Records operators in a graph."""

    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits(func):
            raise RuntimeError(f"{func} is not permitted when the stream is capturing")
        return self._graph.record(func, args, kwargs or {})


def waits(operator: Any) -> bool:
    """Return whether an operator waits for the device."""
    return str(operator).rpartition(".")[0] in WAITING_OPERATORS


def tensors(values: Any) -> list[torch.Tensor]:
    """Return the tensors among the arguments or the outputs of an operator."""
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def address_of(tensor: torch.Tensor) -> int:
    """Return the start address of a tensor's memory, which all of its views share."""
    return tensor.untyped_storage().data_ptr()
