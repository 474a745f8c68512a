"""The runtime `torch`: a frozen TorchScript graph, or the modules themselves where they cannot be traced."""

import time
from collections.abc import Sequence
from typing import Final

import torch

from pipeline.model.agreement import noise
from pipeline.model.device import COMPUTED_BY_MODULES, ComputedAs
from pipeline.model.device_module import DTYPES, DeviceModule, dtype_name
from pipeline.model.runtime import CannotCompute, PreparedModel, TracedSource
from pipeline.model.torchscript import as_graph

_MAX_TIME_RATIO_OF_ONE_IMAGE: Final = 2.0
"""Ratio to float32's time for one image above which a number format is not tried: tracing it alone takes seconds."""

_TIMED_CALLS: Final = 3


class TorchRuntime:
    """Torch itself; computes in any number format, in some of them slowly on some processors.

    Args:
        source: the model.
        threads: threads that compute at a time; the graph is the same for all.
    """

    def __init__(self, source: TracedSource, threads: int) -> None:  # noqa: ARG002
        self._source = source

    def dtypes(self) -> Sequence[torch.dtype]:
        """Return all number formats."""
        return [*DTYPES.values()]

    def prepared(self, dtype: torch.dtype, *, if_quick: bool = False) -> PreparedModel:
        """Trace the model in a number format.

        Raises:
            CannotCompute: with `if_quick`, an image takes far longer in this format than in the source's.
            RuntimeError: torch has no kernel for a layer in this format.
        """
        module, spec = self._source.module, self._source.spec
        if dtype is module.dtype:
            return as_prepared(self._source)
        converted = module.computing_in(dtype)
        if if_quick:
            image = noise(1, spec, seed=0)
            ratio = _seconds(converted, image) / _seconds(module, image)
            if ratio > _MAX_TIME_RATIO_OF_ONE_IMAGE:
                raise CannotCompute(f"an image takes {ratio:.1f} times as long as in {dtype_name(module.dtype)}")
        return as_prepared(TracedSource(converted, spec))


def as_prepared(source: TracedSource) -> PreparedModel:
    """Return the model as a graph in the number format that it has, or as modules if it cannot be traced."""
    compute = as_graph(source.module, source.spec, lambda: source.trace)
    as_it_is = source.module.own_way or COMPUTED_BY_MODULES
    way = as_it_is if compute is source.module else "a TorchScript graph"
    return PreparedModel(source.module, compute, ComputedAs(way, "torch", dtype_name(source.module.dtype)))


def _seconds(module: DeviceModule, image: torch.Tensor) -> float:
    """Return the shortest of several calls, after one that does not count."""
    taken_s = []
    with torch.inference_mode():
        for _ in range(1 + _TIMED_CALLS):
            started_at = time.perf_counter()
            module(image)
            taken_s.append(time.perf_counter() - started_at)
    return min(taken_s[1:])
