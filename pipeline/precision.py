"""What a model computes in where nobody has said it: the quickest format that agrees with float32.

Whether a smaller one is quicker depends on the processor, and whether it agrees on the model: so both are measured. A
CPU without instructions for bfloat16 takes several times as long in it.
"""

import logging
import time
from functools import partial
from typing import Final

import torch
from torch import Tensor

from pipeline.frozen import Compute, frozen
from pipeline.model import Classifier

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

SMALLER: Final = (torch.bfloat16, torch.float16)
"""What is tried beside float32."""

TOLERANCE: Final = 0.02
"""The most by which a score, a probability, may differ from float32's. Only classes that near may change places."""

IMAGES: Final = 16
"""That both are shown."""

_TURNS: Final = 3
_HOPELESS: Final = 2.0
"""What takes so many times as long for one image as float32 is not looked at any further."""


def quickest(classifier: Classifier, kind: str, side_px: int) -> Classifier:
    """The classifier in the quickest format of those that agree with it.

    Args:
        classifier: computes in float32, on the CPU.
        kind: of the device that it is for, "cpu" or "cuda".
        side_px: of its images, which are square.
    """
    pixels = scenes(IMAGES, side_px).to(kind)
    served = partial(frozen, side_px=side_px) if kind == "cpu" else _as_it_is
    classifier.to(kind)
    alone_s, expected = _seconds(classifier, pixels[:1]), _scores(classifier, pixels)
    best, best_s = classifier, _seconds(served(classifier), pixels)
    for dtype in SMALLER:
        candidate = classifier.computing_in(dtype)
        try:
            if _seconds(candidate, pixels[:1]) > _HOPELESS * alone_s:
                continue
            taken_s = _seconds(served(candidate), pixels)
            worst = float((_scores(candidate, pixels) - expected).abs().max())
        except RuntimeError as error:  # torch has no such kernel, or no memory for it
            logger.info("%s is not tried: %s", dtype, error)
            continue
        logger.info("%s: scores differ by up to %.2g, a batch takes %.2f times as long", dtype, worst, taken_s / best_s)
        if worst <= TOLERANCE and taken_s < best_s:
            best, best_s = candidate, taken_s
    return best


def _as_it_is(classifier: Classifier) -> Compute:
    return classifier


def _scores(classifier: Classifier, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return classifier.scores(pixels)


def _seconds(compute: Compute, pixels: Tensor) -> float:
    """Until the answers are in host memory: the least of some turns, after one that does not count."""
    taken_s = []
    with torch.inference_mode():
        for _ in range(1 + _TURNS):
            started_at = time.perf_counter()
            compute(pixels)[0].cpu()
            taken_s.append(time.perf_counter() - started_at)
    return min(taken_s[1:])


def scenes(images: int, side_px: int) -> Tensor:
    """Images whose parts have the strengths that they have in photographs, where an octave holds as much as the next.

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
