"""A CUDA graph: all kernels of a forward pass, recorded once and launched by one call.

Without a graph, a forward pass needs the interpreter for each of its kernels; in a replica the event loop keeps the
interpreter busy, and the device waits. `python -m benchmarks.gpu --only launch` measures the effect.

Hazard: a graph is a recording. It reads and writes the addresses of its first run, repeats the path that the model took
then, and runs no Python code of the model. It keeps neither its input nor the model's weights alive: in memory that was
freed it would read the weights of another model. Guard: model, input and outputs are kept alive with the graph, and
`CudaDevice` compares its answers with the model's before it serves any.
Test: `tests/pipeline/model/test_cuda.py::test_a_model_that_cannot_be_recorded_computes_all_the_same`.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from pipeline.model.torchscript import Compute

Replay = Callable[[], tuple[Tensor, ...]]
"""Function that launches the kernels and returns the tensors that they write to, the same ones each time."""

_CALLS_BEFORE_RECORDING: Final = 3
"""Calls before a recording, so that cuDNN's search and the libraries' first allocations are not recorded."""


def settle(compute: Compute, pixels: Tensor) -> None:
    """Call `compute` a few times, until the libraries only launch kernels."""
    for _ in range(_CALLS_BEFORE_RECORDING):
        compute(pixels)


def recorded(compute: Compute, pixels: Tensor, *, stream: torch.cuda.Stream, pool: object) -> Replay:
    """Record the kernels that `compute` launches for `pixels`; call `settle` for that batch size in this thread before.

    Args:
        compute: the model, on the device.
        pixels: [n, *shape] on the device, as they lie in the slots; each replay reads the present content.
        stream: stream on which the graph is recorded and replayed.
        pool: memory that all graphs on that stream share, as only one runs at a time (`torch.cuda.graph_pool_handle`).

    Raises:
        RuntimeError: the model cannot be recorded: it waits for the device, or allocates outside torch.
    """
    graph = torch.cuda.CUDAGraph()
    # "thread_local": other threads may call CUDA during the recording.
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):  # type: ignore[arg-type]
        outputs = compute(pixels)

    return partial(_replayed, graph, outputs, compute, pixels)


def _replayed(graph: torch.cuda.CUDAGraph, outputs: tuple[Tensor, ...], *_kept_alive: object) -> tuple[Tensor, ...]:
    graph.replay()
    return outputs
