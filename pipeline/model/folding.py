"""Batch norm folded into the convolutions before it: fewer kernels, the same answers."""

import warnings

import torch
from torch import nn

from pipeline.model.classifier import Classifier


def folded(classifier: Classifier) -> Classifier:
    """A copy of the classifier without the batch norms that follow a convolution.

    Folded in float32, whatever the classifier computes in: a variance may be too small for float16.

    Args:
        classifier: in evaluation mode.

    Raises:
        Exception: `torch.fx` cannot follow the backbone, which raises anything.
    """
    exact = classifier.computing_in(torch.float32)
    exact.backbone = _fused(exact.backbone).to(memory_format=torch.channels_last)
    return exact.computing_in(classifier.dtype)


def _fused(backbone: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.11 warns, where this is imported, of what nobody uses here
        from torch.fx.experimental.optimization import fuse
    return fuse(backbone)
