"""Folds batch norm into the convolutions before it: fewer kernels, the same answers."""

import warnings

import torch
from torch import nn

from pipeline.model.device_module import DeviceModule


def folded(module: DeviceModule) -> DeviceModule:
    """Return a copy of the module without the batch norms that follow a convolution.

    The folding is done in float32, whatever the module's format: a variance may be too small for float16.

    Args:
        module: the model, in evaluation mode.

    Raises:
        Exception: `torch.fx` cannot follow the network; the error may be of any class.
    """
    exact = module.computing_in(torch.float32)
    exact.module = _fused(exact.module).to(memory_format=torch.channels_last)
    return exact.computing_in(module.dtype)


def _fused(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing this in torch 2.11 warns of parts that are not used here
        from torch.fx.experimental.optimization import fuse
    return fuse(network)
