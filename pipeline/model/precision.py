"""Chooses the number format for `dtype: auto`: the quickest format whose scores agree with float32.

Whether a smaller format is quicker depends on the processor, and whether its scores agree depends on the model, so both
are measured. A CPU without instructions for bfloat16 takes several times as long in it.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import first_line
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import difference
from pipeline.model.classify import Classify
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import collect
from pipeline.model.device_module import DeviceModule
from pipeline.model.multilabel import Multilabel
from pipeline.model.torchscript import Compute, as_graph

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

SMALLER_DTYPES: Final = (torch.float16, torch.bfloat16)
"""Number formats tried beside float32, the more exact first: float16 has 10 fraction bits, bfloat16 has 7."""

MAX_DIFFERENCE_FROM_FLOAT32: Final = 0.02
"""Largest allowed difference of a score, a probability, from float32. Only classes with scores that close may swap."""

COMPARED_IMAGES: Final = 16
"""Number of images with which the scores of every format are compared with float32."""

_TIMED_CALLS: Final = 3
_MIN_TIME_SAVED_SHARE: Final = 0.05
"""Least share of the time that a format must save; otherwise the more exact one is kept."""

_MAX_TIME_RATIO_OF_ONE_IMAGE: Final = 2.0
"""Ratio to float32's time for one image above which a format is not measured further, on the CPU."""


@dataclass(frozen=True, slots=True)
class DtypeTrial:
    """Speed and scores of a number format, measured as it would be served."""

    seconds: float  # of a batch
    rows: Mapping[str, Tensor]  # of the compared images, as by `Head.on_device`, in host memory


def _off(rows: Mapping[str, Tensor], exact: DeviceModule, pixels: Tensor) -> float:
    """Return the largest difference of a float from float32's; NaN if one is NaN.

    The scores of classes are compared class by class, whatever the ranks of the classes.
    """
    with torch.inference_mode():
        if isinstance(exact.head, Classify | Multilabel):
            expected = exact.head.scores(exact.outputs(pixels))
            return float((rows["scores"] - expected.gather(1, rows["classes"])).abs().max())
        return difference(tuple(rows.values()), exact(pixels))


def quickest(module: DeviceModule, device_kind: str, pixels: Tensor, largest_batch: int) -> DeviceModule:
    """Return the model in the quickest format that agrees with float32; of equally quick ones, in the more exact.

    Args:
        module: the model in float32, on the CPU.
        device_kind: kind of the device that will serve it, "cpu" or "cuda".
        pixels: inputs like those that it will serve, e.g. `scenes`: [n, *shape]; of more than `COMPARED_IMAGES`, the
            first ones are used.
        largest_batch: number of images; on CUDA a batch of that size is measured, as it will be served.
    """
    pixels = pixels[: min(COMPARED_IMAGES, largest_batch)]
    attempt = _OnCuda(pixels, largest_batch) if device_kind == "cuda" else _OnCpu(pixels, module)
    trial = _tried(attempt, module)
    best, best_s = module, trial.seconds if trial else math.inf
    for dtype in SMALLER_DTYPES:
        candidate = module.computing_in(dtype)
        if not (trial := _tried(attempt, candidate)):
            continue
        worst, share = _off(trial.rows, module, pixels), trial.seconds / best_s
        logger.info("%s: scores differ by up to %.2g, a batch takes %.2f times as long", dtype, worst, share)
        if worst <= MAX_DIFFERENCE_FROM_FLOAT32 and share < 1 - _MIN_TIME_SAVED_SHARE:
            best, best_s = candidate, trial.seconds
    return best


def _tried(attempt: Callable[[DeviceModule], DtypeTrial | None], module: DeviceModule) -> DtypeTrial | None:
    """Measure a format; return None if it is far too slow, or torch has no kernel or no memory for it."""
    try:
        return attempt(module)
    except RuntimeError as error:
        logger.info("number format %s cannot be used: %s", module.dtype, first_line(error))
        return None


@dataclass(frozen=True)
class _OnCuda:
    """Measures the largest batch with CUDA graphs, from page-locked memory to the results on the host."""

    pixels: Tensor
    largest_batch: int

    def __call__(self, module: DeviceModule) -> DtypeTrial:
        device = CudaDevice(module, (self.largest_batch,), InputSpec.of(self.pixels))
        seconds = device.warm_up()[self.largest_batch]
        output = collect(device.launch([self.pixels.pin_memory()]))
        return DtypeTrial(seconds, output.rows)


class _OnCpu:
    """Measures a batch of `COMPARED_IMAGES` with one graph in one thread; None for a format too slow with one image.

    Args:
        pixels: [n, *shape].
        exact: the model in float32, with which the other formats are compared.
    """

    def __init__(self, pixels: Tensor, exact: DeviceModule) -> None:
        torch.set_num_threads(1)  # as in serving
        self._pixels, self._exact = pixels, exact
        self._alone_s = _seconds(exact, pixels[:1])

    def __call__(self, module: DeviceModule) -> DtypeTrial | None:
        if (
            module is not self._exact
            and _seconds(module, self._pixels[:1]) > _MAX_TIME_RATIO_OF_ONE_IMAGE * self._alone_s
        ):
            return None
        graph = as_graph(module, InputSpec.of(self._pixels))
        with torch.inference_mode():
            return DtypeTrial(_seconds(graph, self._pixels), module.named(graph(self._pixels)))


def _seconds(compute: Compute, pixels: Tensor) -> float:
    """Return the shortest of several calls, after one that does not count."""
    taken_s = []
    with torch.inference_mode():
        for _ in range(1 + _TIMED_CALLS):
            started_at = time.perf_counter()
            compute(pixels)
            taken_s.append(time.perf_counter() - started_at)
    return min(taken_s[1:])


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
