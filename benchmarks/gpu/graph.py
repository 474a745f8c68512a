"""A model step as one CUDA graph, recorded as the service records it."""

import torch
from torch import Tensor

from pipeline.model.cuda_graph import Replay, recorded, settle
from pipeline.model.torchscript import Compute


def graphed(compute: Compute, pixels: Tensor) -> Replay:
    """Record `compute(pixels)`; the returned function replays it on the current content of `pixels`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.inference_mode():
        settle(compute, pixels)
        replay = recorded(compute, pixels, stream=stream, pool=torch.cuda.graph_pool_handle())
    torch.cuda.current_stream().wait_stream(stream)
    return replay
