"""A CUDA graph: all kernels of a forward pass, recorded once and launched by one call.

As modules, a forward pass asks the interpreter for each of its kernels; in a replica the event loop keeps the
interpreter busy, and the device waits. `python -m benchmarks.gpu --only launch` measures it.

Hazard: a graph is a recording. It reads and writes the addresses of its first run, keeps the path that the model took
then, and knows nothing of Python that runs beside it. Guard: input and outputs are kept alive with it, and `CudaDevice`
holds its answers against the model's before it serves any.
Test: `tests/pipeline/model/test_cuda.py::test_a_model_that_cannot_be_recorded_computes_all_the_same`.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from pipeline.model.torchscript import Compute

Replay = Callable[[], tuple[Tensor, ...]]
"""Launches the kernels; returns the tensors that they write to, the same ones each time."""

_CALLS_BEFORE_RECORDING: Final = 3
"""Calls before a recording, so that it holds neither cuDNN's search nor what the libraries allocate at first."""


def settle(compute: Compute, pixels: Tensor) -> None:
    """Calls `compute` as often as its libraries need until they do nothing but launch kernels."""
    for _ in range(_CALLS_BEFORE_RECORDING):
        compute(pixels)


def recorded(compute: Compute, pixels: Tensor, *, stream: torch.cuda.Stream, pool: object) -> Replay:
    """Records what `compute` launches for `pixels`. It must have been settled for a batch of that size, by this thread.

    Args:
        compute: the model, on the device.
        pixels: uint8 [n, side, side, 3] on the device; read anew in each replay.
        stream: on which the graph is recorded and replayed.
        pool: memory that all graphs on that stream share, from `torch.cuda.graph_pool_handle`: they run one at a time.

    Raises:
        RuntimeError: the model does what cannot be recorded: it waits for the device, or allocates outside torch.
    """
    graph = torch.cuda.CUDAGraph()
    # Only this thread's calls count: others, as the pin-memory threads, may ask CUDA for something meanwhile.
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):  # type: ignore[arg-type]
        outputs = compute(pixels)

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay
