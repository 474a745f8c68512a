"""A model step as one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.frozen import Compute


def graphed(compute: Compute, pixels: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    """Captures `compute(pixels)`; each call of what is returned replays it on whatever `pixels` holds then."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.inference_mode():
        for _ in range(3):  # cuDNN searches, and the allocator settles, before the capture
            compute(pixels)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        kept = compute(pixels)

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return kept

    return replay
