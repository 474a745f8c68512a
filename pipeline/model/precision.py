"""Chooses the number format for `dtype: auto` on CUDA: the quickest format whose scores agree with float32.

Whether a smaller format is quicker depends on the device, and whether its scores agree depends on the model, so both
are measured. (On the CPU the runtime is chosen together with the number format: `pipeline/model/runtimes.py`.)
"""

import logging
import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import first_line
from pipeline.input_spec import InputSpec
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import collect
from pipeline.model.device_module import DeviceModule
from pipeline.model.reference import COMPARED_IMAGES, MAX_DIFFERENCE_FROM_FLOAT32, MIN_TIME_SAVED_SHARE, Reference

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

SMALLER_DTYPES: Final = (torch.float16, torch.bfloat16)
"""Number formats tried beside float32, the more exact first: float16 has 10 fraction bits, bfloat16 has 7."""


def quickest(module: DeviceModule, samples: Tensor, largest_batch: int) -> DeviceModule:
    """Return the model in the quickest format that agrees with float32; of equally quick ones, in the more exact.

    Args:
        module: the model in float32, on the CPU.
        samples: inputs like those that it will serve, e.g. `scenes`: [n, *shape]; of more than `COMPARED_IMAGES`, the
            first ones are used.
        largest_batch: number of images of the batch that is measured, as it will be served.
    """
    samples = samples[: min(COMPARED_IMAGES, largest_batch)]
    reference, best, best_s = Reference(module, samples), module, math.inf
    for dtype in (torch.float32, *SMALLER_DTYPES):
        candidate = module if dtype is torch.float32 else module.computing_in(dtype)
        try:
            seconds, rows = _tried(candidate, samples, largest_batch)
        except RuntimeError as error:
            logger.info("number format %s cannot be used: %s", dtype, first_line(error))
            continue
        worst, share = reference.difference(rows), seconds / best_s
        logger.info("%s: scores differ by up to %.2g, a batch takes %.2f times as long", dtype, worst, share)
        if candidate is module or (worst <= MAX_DIFFERENCE_FROM_FLOAT32 and share < 1 - MIN_TIME_SAVED_SHARE):
            best, best_s = candidate, seconds
    return best


def _tried(module: DeviceModule, samples: Tensor, largest_batch: int) -> tuple[float, Mapping[str, Tensor]]:
    """Return the seconds of the largest batch, from page-locked memory to the results on the host, and the results.

    Raises:
        RuntimeError: torch has no kernel or no memory for the format.
    """
    device = CudaDevice(module, (largest_batch,), InputSpec.of(samples))
    seconds = device.warm_up()[largest_batch]
    return seconds, collect(device.launch([samples.pin_memory()])).rows


def scenes(images: int, side_px: int) -> Tensor:
    """Return random images with the spatial frequencies of photographs: every octave has the same energy.

    (Field, Relations between the statistics of natural images and the response properties of cortical cells, 1987.)

    Returns:
        uint8 [images, side_px, side_px, 3], the same each time.
    """
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(images, 3, side_px, side_px, generator=generator)
    down, across = torch.fft.fftfreq(side_px), torch.fft.rfftfreq(side_px)
    frequency = torch.hypot(down[:, None], across).clamp(min=1 / side_px)
    pink = torch.fft.irfft2(torch.fft.rfft2(white) / frequency, s=(side_px, side_px))
    pink /= pink.std((2, 3), keepdim=True)
    pixels: Tensor = (127 + 60 * pink).clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous()
