"""The runtime `compile`: torch's own compiler turns the model into one program in machine code.

One call computes a batch in the thread that calls, without the interpreter, as a TorchScript graph does.
"""

import logging
from collections.abc import Sequence
from typing import Final

import torch

from pipeline.errors import first_line
from pipeline.model.agreement import noise
from pipeline.model.compiler import compiled_for_cpu, has_cpp_compiler
from pipeline.model.device import ComputedAs
from pipeline.model.device_module import DTYPES, DeviceModule, dtype_name
from pipeline.model.folding import folded
from pipeline.model.runtime import CannotCompute, PreparedModel, TracedSource

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

_EXAMPLES: Final = 2
"""Images in the batch with which the model is exported."""


class CompileRuntime:
    """Torch's compiler for the CPU.

    Args:
        source: the model.
        threads: threads that compute at a time.
    """

    def __init__(self, source: TracedSource, threads: int) -> None:
        self._source, self._threads = source, threads

    def dtypes(self) -> Sequence[torch.dtype]:
        """Return all number formats.

        Raises:
            CannotCompute: this machine has no C++ compiler.
        """
        if not has_cpp_compiler():
            raise CannotCompute("torch finds no C++ compiler on this machine; install g++, or name another one in CXX")
        return [*DTYPES.values()]

    def prepared(self, dtype: torch.dtype, *, if_quick: bool = False) -> PreparedModel:  # noqa: ARG002
        """Compile the model in a number format, once for batches of all sizes. Takes a minute or more.

        Raises:
            Exception: torch cannot export or compile the model; the error may be of any class.
        """
        module, spec = self._source.module, self._source.spec
        if dtype is not module.dtype:
            module = module.computing_in(dtype)
        compute = compiled_for_cpu(_with_norms_folded(module), noise(_EXAMPLES, spec, seed=0), self._threads)
        return PreparedModel(module, compute, ComputedAs("a compiled program", "compile", dtype_name(dtype)))


def _with_norms_folded(module: DeviceModule) -> DeviceModule:
    """Return the model without batch norm, which the compiler would keep; as it is if that is not possible."""
    if module.is_saved:
        return module
    try:
        return folded(module)
    except Exception as error:  # noqa: BLE001 - torch.fx raises anything about a model that it cannot follow
        logger.info("batch norm is not folded: %s", first_line(error))
        return module
