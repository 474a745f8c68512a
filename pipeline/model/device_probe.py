"""Finds out with a black image whether a device still computes, when the model has failed on other images."""

import logging

import torch

from pipeline.errors import DeviceFailure
from pipeline.model.device import Device, collect
from pipeline.ready_queue import PixelBatch, pieces

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "device"})


def failure_of(device: Device, batch: PixelBatch, *, by_nan: bool = False) -> DeviceFailure | None:
    """Compute a black image of the size of a batch's images; return the failure of the device, if it has failed.

    After an error of CUDA itself no kernel runs any more in the process.

    Args:
        device: the device.
        batch: images on which the model has failed.
        by_nan: whether scores that are not finite are a failure too.
    """
    try:
        output = collect(device.launch([torch.zeros_like(pieces([batch])[0][:1])]))
    except Exception as error:
        logger.exception("the device fails on a black image too")
        failure = DeviceFailure("the device has failed; see the log")
        failure.__cause__ = error
        return failure
    if by_nan and output.not_finite():
        return DeviceFailure("the device has failed: the scores of a black image are NaN too")
    return None
