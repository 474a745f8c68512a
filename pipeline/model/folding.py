"""Batch norm folded into the convolutions before it: fewer kernels, the same answers."""

import warnings

import torch
from torch import nn

from pipeline.model.device_module import DeviceModule


def folded(module: DeviceModule) -> DeviceModule:
    """A copy of the module without the batch norms that follow a convolution.

    Folded in float32, whatever the module computes in: a variance may be too small for float16.

    Args:
        module: in evaluation mode.

    Raises:
        Exception: `torch.fx` cannot follow the network, which raises anything.
    """
    exact = module.computing_in(torch.float32)
    exact.module = _fused(exact.module).to(memory_format=torch.channels_last)
    return exact.computing_in(module.dtype)


def _fused(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.11 warns, where this is imported, of what nobody uses here
        from torch.fx.experimental.optimization import fuse
    return fuse(network)
