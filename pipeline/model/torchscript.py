"""A served model as one TorchScript graph: weights are constants, batch norm is folded, no kernel needs the GIL.

In a replica the model shares the interpreter with the event loop. Without a graph it needs the interpreter for every
kernel, and so gets slower the more requests are refused meanwhile. `python -m benchmarks.forward` measures both.

Hazard: tracing records the path that its example takes. A model that branches on its input, or whose batch size the
graph takes for a constant, would give wrong answers from then on. Guard: the graph must agree with the model on batches
of other sizes, or it is not used.
Test: `tests/pipeline/model/test_torchscript.py::test_a_model_that_cannot_be_traced_computes_as_it_was_loaded`.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.errors import InvalidModel, first_line
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import MAX_SCORE_DIFFERENCE, difference, noise
from pipeline.model.device_module import DeviceModule

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

_TRACED_BATCH_SIZE: Final = 2
_CHECKED_BATCH_SIZES: Final = (1, 3)
"""Numbers of images in the batches with which a graph is traced and checked."""

Compute = Callable[[Tensor], tuple[Tensor, ...]]


def as_graph(module: DeviceModule, spec: InputSpec, trace: Callable[[], Compute] | None = None) -> Compute:
    """Return the module as a graph for the CPU; the module itself if that fails, with the reason in the log.

    Args:
        module: the model on the CPU; it is put into evaluation mode.
        spec: its input for one image.
        trace: function that returns the module's trace, if one may have been made already.

    Raises:
        InvalidModel: the head does not fit the module.
    """
    module.eval()
    if module.own_way:
        return module
    try:
        if reads_values(module, noise(1, spec, seed=0)):
            logger.warning("the model runs without a TorchScript graph, as it decides by the values of its input")
            return module
        graph = trace() if trace else traced(module, spec)
        worst = max(_difference(module, graph, noise(images, spec, seed=images)) for images in _CHECKED_BATCH_SIZES)
    except InvalidModel:
        raise
    except Exception as error:  # noqa: BLE001 - a model may do anything, and the tracer raises anything
        logger.warning("the model runs without a TorchScript graph, as it cannot be traced: %s", first_line(error))
        return module
    if not worst <= MAX_SCORE_DIFFERENCE[module.dtype]:
        logger.warning("the model runs without a TorchScript graph, with which its scores differ by up to %.2g", worst)
        return module
    return graph


def traced(module: DeviceModule, spec: InputSpec) -> Compute:
    """Return the module as a graph, on the module's device; the graph is not compared with the module.

    Raises:
        Exception: the tracer cannot follow the model; the error may be of any class.
    """
    pixels = noise(_TRACED_BATCH_SIZE, spec, seed=_TRACED_BATCH_SIZE).to(module.device)
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated; but torch.compile needs a C++ compiler, and programs of torch.export run in Python.
        warnings.simplefilter("ignore")
        # `optimize_for_inference` on top makes some models slower: googlenet by half.
        graph: Compute = torch.jit.freeze(torch.jit.trace(module, pixels, check_trace=False))  # type: ignore[no-untyped-call]
    return graph


class _ValuesRead(TorchDispatchMode):
    """Notices that Python reads a value of a tensor, as `if x.max() > 1` and `x.item()` do."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch would load its compiler, which takes 2 s, to keep it from compiling this class."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads_values(module: DeviceModule, pixels: Tensor) -> bool:
    """Return whether a module decides by values: a graph would keep the decision that it took for its example."""
    with torch.no_grad(), _ValuesRead() as values:
        module(pixels)
    return bool(values.found)


def _difference(module: DeviceModule, graph: Compute, pixels: Tensor) -> float:
    with torch.inference_mode():
        return difference(graph(pixels), module(pixels))
