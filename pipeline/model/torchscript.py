"""A served model as one graph: weights are constants, batch norm is folded, and no kernel waits for the interpreter.

In a replica the interpreter is shared with the event loop: as loaded, a model asks for it anew for every kernel, and so
is slower the more is refused beside it. `python -m benchmarks.forward` measures both.

Hazard: tracing writes down the path that its example took; a model that branches on its input, or whose batch size the
graph takes for a constant, would answer wrongly from then on. Guard: the graph must agree with the model on batches of
other sizes, or it is not used.
Test: `tests/pipeline/model/test_torchscript.py::test_a_model_that_cannot_be_traced_computes_as_it_was_loaded`.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import first_line
from pipeline.model.agreement import MAX_SCORE_DIFFERENCE, difference, noise
from pipeline.model.device_module import DeviceModule

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

_TRACED_BATCH_SIZE: Final = 2
_CHECKED_BATCH_SIZES: Final = (1, 3)
"""Images in the batches that it is traced and checked with."""

Compute = Callable[[Tensor], tuple[Tensor, ...]]


def as_graph(module: DeviceModule, side_px: int) -> Compute:
    """The module as a graph, for the CPU; itself where that cannot be, and the log says why.

    Args:
        module: on the CPU; put into evaluation mode.
        side_px: of its images, which are square.
    """
    module.eval()
    try:
        graph = traced(module, side_px)
        worst = max(_difference(module, graph, noise(images, side_px, seed=images)) for images in _CHECKED_BATCH_SIZES)
    except Exception as error:  # noqa: BLE001 - a model may do anything, and the tracer raises anything
        logger.warning("the model computes as it was loaded, as it cannot be made a graph: %s", first_line(error))
        return module
    if not worst <= MAX_SCORE_DIFFERENCE[module.dtype]:
        logger.warning("the model computes as it was loaded: as a graph, its scores differ by up to %.2g", worst)
        return module
    return graph


def traced(module: DeviceModule, side_px: int) -> Compute:
    """The module as a graph, on its own device; not held against the module.

    Raises:
        Exception: the tracer cannot follow the model, which raises anything.
    """
    pixels = noise(_TRACED_BATCH_SIZE, side_px, seed=_TRACED_BATCH_SIZE).to(module.scale.device)
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated; but torch.compile needs a C++ compiler, and Python runs what torch.export gives.
        warnings.simplefilter("ignore")
        # `optimize_for_inference` on top makes some models slower: googlenet by half.
        graph: Compute = torch.jit.freeze(torch.jit.trace(module, pixels, check_trace=False))  # type: ignore[no-untyped-call]
    return graph


def _difference(module: DeviceModule, graph: Compute, pixels: Tensor) -> float:
    with torch.inference_mode():
        return difference(graph(pixels), module(pixels))
