"""torchvision's models, imported without torch's compiler.

`torchvision.ops.roi_align` imports `torch._dynamo` for one function, which only detectors call, and only where
deterministic algorithms are asked for. That import takes 2 s of processor time and 190 MB, nearly as much as torch
itself, at each start of a replica. So a placeholder replaces that module while torchvision is imported.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import torch  # noqa: F401  must be imported before a placeholder replaces one of its modules

__all__ = ["GeneralizedRCNNTransform", "ImageClassification", "WeightsEnum", "models"]

_PACKAGE: Final = "torch._dynamo"
_UTILS: Final = "torch._dynamo.utils"


class _Placeholder(ModuleType):
    """Empty module, replaced by the real one when asked for anything else, e.g. by another version of torchvision."""

    def __getattr__(self, name: str) -> Any:
        wants_more = not name.startswith("__") or (self.__name__, name) == (_PACKAGE, "__path__")  # of a submodule
        if not wants_more:  # every import asks for such attributes, and `inspect` asks all modules
            raise AttributeError(name)
        _remove_placeholders()
        return getattr(import_module(self.__name__), name)


def _is_compile_supported(device_type: Any) -> Any:
    return import_module(_UTILS).is_compile_supported(device_type)


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    """Replace the compiler's modules by placeholders, unless they are imported already."""
    if _PACKAGE not in sys.modules:
        utils = _Placeholder(_UTILS)
        vars(utils)["is_compile_supported"] = _is_compile_supported
        sys.modules |= {_PACKAGE: _Placeholder(_PACKAGE), _UTILS: utils}
    try:
        yield
    finally:
        _remove_placeholders()


def _remove_placeholders() -> None:
    for name in (_PACKAGE, _UTILS):
        if isinstance(sys.modules.get(name), _Placeholder):
            del sys.modules[name]


with _compiler_left_out():
    from torchvision import models
    from torchvision.models import WeightsEnum
    from torchvision.models.detection.transform import GeneralizedRCNNTransform
    from torchvision.transforms._presets import ImageClassification
