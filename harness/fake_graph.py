"""A fake CUDA graph: the operators of a capture are written down, and run again by `replay`; Python is not."""

import weakref
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

WAITING: Final = tuple(f"aten.{name}" for name in ("_local_scalar_dense", "equal", "item", "masked_select", "nonzero"))
"""Operators that wait for the device: a stream that is captured refuses them."""


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
        for tensor in tensors(outputs):
            made.append(numbers.get(id(tensor), len(self._made)))
            if not any(tensor is argument for argument in tensors(args)):
                self._made[made[-1]] = tensor
        self._calls.append((func, *call, made))
        return outputs

    def end(self) -> None:
        """Ends the capture. As nothing has run in one, what it computed is overwritten."""
        inputs = {address for _, args, kwargs, _ in self._calls for address in map(address_of, tensors((args, kwargs)))}
        for number, tensor in self._made.items():
            if address_of(tensor) not in inputs:
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
            self._kept[number] = weakref.ref(tensor)
        self._made.clear()

    def replay(self) -> None:
        """Runs the operators again; what somebody has of their results is written anew."""
        fresh: dict[int, torch.Tensor] = {}
        for func, args, kwargs, made in self._calls:
            args, kwargs = _with(fresh, (args, kwargs))
            fresh |= zip(made, tensors(func(*args, **kwargs)), strict=True)
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


class OperatorRecorder(TorchDispatchMode):
    """Writes operators down."""

    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if waits(func):
            raise RuntimeError(f"{func} is not permitted when the stream is capturing")
        return self._graph.record(func, args, kwargs or {})


def waits(operator: Any) -> bool:
    """Tell whether an operator waits for the device."""
    return str(operator).rpartition(".")[0] in WAITING


def tensors(values: Any) -> list[torch.Tensor]:
    """Return the tensors among the arguments or the outputs of an operator."""
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def address_of(tensor: torch.Tensor) -> int:
    """Return where the memory of a tensor begins, which all of its views share."""
    return tensor.untyped_storage().data_ptr()
