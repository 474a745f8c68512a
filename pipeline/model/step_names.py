"""Finds out which class a step of a user's transform is: one of torchvision's or timm's own, or something else."""

import dis
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, Final

_PUBLIC: Final = {
    "torchvision.transforms": "",
    "torchvision.transforms.v2": "",
    "torchvision.transforms._presets": "",
    "torch.nn": "",
    "timm.data.transforms": "timm ",
}
"""Modules whose classes are known, and a prefix for the names of their classes. A step's module is imported already."""

_FUNCTIONS_THAT_DO_NOTHING: Final[tuple[Callable[[Any], Any], ...]] = (
    lambda image: image,
    lambda image: image.convert("RGB"),
)


def name_of(step: object) -> str | None:
    """Return the name of a step's class, "nothing" for a function that does nothing, or None for any other step.

    A subclass may do anything; so may an instance with a hook, or with an attribute in place of a method.
    """
    if isinstance(step, FunctionType):
        return "nothing" if does_nothing(step) else None
    name = type(step).__name__
    if not is_altered(step):
        for module, prefix in _PUBLIC.items():
            if getattr(sys.modules.get(module), name, None) is type(step):
                return prefix + name
    return None


def is_altered(step: object) -> bool:
    """Return whether a step has hooks, or attributes that hide those of its class."""
    own = getattr(step, "__dict__", {})
    hooks = own.get("_forward_hooks") or own.get("_forward_pre_hooks")
    return bool(hooks) or any(hasattr(type(step), name) for name in own)


def does_nothing(function: object) -> bool:
    """Return whether a function returns an RGB picture as it is, by comparison of its bytecode."""
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    takes_one = code.co_argcount == len(code.co_varnames) == 1  # neither further arguments nor variables
    return takes_one and _instructions(function) in map(_instructions, _FUNCTIONS_THAT_DO_NOTHING)


def described(step: object) -> str:
    """Return a name for the log; that of a function with its file and line."""
    if code := getattr(step, "__code__", None):  # a function or a method
        return f"{getattr(step, '__qualname__', '')} ({Path(code.co_filename).name}:{code.co_firstlineno})"
    return (
        f"{type(step).__qualname__} with a hook or a replaced method" if is_altered(step) else type(step).__qualname__
    )


def _instructions(function: Callable[..., Any]) -> list[tuple[str, object]]:
    """List what a function does, without the names of its variables."""
    return [
        (each.opname, None if each.opname.startswith("LOAD_FAST") else each.argval)
        for each in dis.get_instructions(function)
    ]
