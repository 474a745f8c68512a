"""Cost of a user's own transform for an image, and what the fast path saves where the transform is recognised."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from PIL import Image

from harness.timing import seconds_of_one_core
from pipeline.config import PipelineConfig
from pipeline.images.decode import decode_image
from pipeline.model.recognition import recognised
from pipeline.model.transform_steps import Unrecognised
from pipeline.records import UserTransform

IMAGES: Final = 4
"""Images of the sample with which transforms are measured."""

_RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class TransformGain:
    """Seconds of one core for an image, from its bytes to the model's input.

    Attributes:
        as_it_is_s: decoding, and the user's own transform.
        decoding_s: the same decoding alone.
        recognised_s: the same by the fast path; None if the transform is not recognised.
        reason: a clause that says why it is not recognised.
    """

    as_it_is_s: float
    decoding_s: float
    recognised_s: float | None = None
    reason: str = ""


def measured_gain(
    transform: Callable[[Image.Image], Any], config: PipelineConfig, images: Sequence[bytes], max_pixels: int
) -> TransformGain:
    """Measure a transform as it runs in a worker, and the fast path if it is recognised.

    Args:
        transform: the user's own: an upright RGB picture -> the model's input.
        config: settings of the pipeline.
        images: encoded images that can be decoded.
        max_pixels: limit on the pixels of an image.
    """
    own = UserTransform("", b"", config.formats, config.background)
    cost_s = partial(_seconds, images[:IMAGES])
    as_it_is_s = cost_s(lambda data: decode_image(data, own, max_pixels, users_own=transform))
    decoding_s = cost_s(lambda data: decode_image(data, own, max_pixels, users_own=lambda _: torch.empty(0)))
    found = recognised(transform, config.decode)
    if isinstance(found, Unrecognised):
        return TransformGain(as_it_is_s, decoding_s, reason=found.reason)
    steps = found.in_workers(config)
    return TransformGain(as_it_is_s, decoding_s, cost_s(lambda data: decode_image(data, steps, max_pixels)))


def gain(cost: TransformGain) -> Iterator[str]:
    """Describe what recognition gains, or what a transform costs that runs as it is."""
    as_it_is = f"{1000 * cost.as_it_is_s:.3g} ms"
    if cost.recognised_s:
        yield (
            f"Your transform is recognised: an image takes {1000 * cost.recognised_s:.3g} ms of a core, from its bytes "
            f"to the model's input. If it ran as it is, an image would take {as_it_is}, "
            f"{cost.as_it_is_s / cost.recognised_s:.1f} times as long"
        )
        return
    yield (
        f"Your transform runs as it is: {cost.reason}. An image takes {as_it_is} of a core, of which decoding alone "
        f"takes {1000 * cost.decoding_s:.3g} ms"
    )


def _seconds(images: Sequence[bytes], work: Callable[[memoryview], object]) -> float:
    """Return the processor seconds of an image."""

    def all_images() -> None:
        for data in images:
            work(memoryview(data))

    return statistics.median(seconds_of_one_core(all_images, runs=_RUNS)) / len(images)
