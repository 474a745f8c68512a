"""Gain of recognising a user's transform: 30 images a request, his own module, and torchvision's four steps.

`python -m benchmarks.own_transform`. The ways are measured in turn, as the speed of a machine drifts: the loop that the
user had before, his transform as it is in the decode workers, and the same transform recognised, with `decode: exact`
and `decode: fast`. An image is measured by the processor time of one thread, from its bytes to the model's input; a
request by the time until its answer. Answers are compared with those of the transform as it is.
"""

import io
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from benchmarks.work import PHONE, SMALL, Work
from harness.circumstances import circumstances
from harness.command import parser_of, publish, run, say
from harness.photographs import encoded
from harness.timing import seconds_of, seconds_of_one_core
from pipeline import Classify, Engine, PipelineConfig, Prediction, ServedModel
from pipeline.images.decode import decode_image
from pipeline.live_limits import Limits
from pipeline.torchvision_models import models

IMAGES: Final = 30
"""Images in a request, as in the source of this project."""

IMAGES_TIMED: Final = 6
"""Images of a request of which each is timed by itself."""

TURNS: Final = 3
FORMATS: Final[dict[str, dict[str, Any]]] = {
    "JPEG": {"quality": 94},
    "PNG": {"compress_level": 1},
    "WEBP": {"quality": 90, "method": 0},
}
"""Formats, and options of Pillow's encoders, the quick ones."""

WEIGHTS: Final = models.MobileNet_V2_Weights.IMAGENET1K_V1
LIMITS: Final = Limits(max_image_bytes=64 << 20, max_image_work_s=10.0)

HEADER: Final = (
    "images",
    "a loop",
    "as it is, in the workers",
    "recognised, exact",
    "recognised, fast",
    "gain of an image",
    "gain of a request",
    "scores off by, exact",
    "fast",
    "same class, fast",
)


def make_transform() -> Callable[[Image.Image], Tensor]:
    """Make the transform as its user has it."""
    return transforms.Compose(  # type: ignore[no-any-return]
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )


def make_model() -> nn.Module:
    """Make the user's own module."""
    module: nn.Module = models.mobilenet_v2(weights=WEIGHTS).eval()
    return module


@dataclass(slots=True)
class TimedTransform:
    """Figures of one way with one kind of images.

    Args:
        request_ms: milliseconds from a request to its answer, one value a turn.
        image_ms: mean milliseconds of a core for an image, one value a turn.
        scores: best score of every image.
        classes: index of that class.
    """

    request_ms: list[float] = field(default_factory=list)
    image_ms: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TransformWay:
    """A way from images to classes.

    Args:
        prepare: an encoded image -> the model's input.
        infer: encoded images -> best score and class of each.
    """

    prepare: Callable[[bytes], object]
    infer: Callable[[Sequence[bytes]], Sequence[tuple[float, int]]]


def loop() -> TransformWay:
    """Return the code before: one image after the other, then the model once."""
    model, transform = make_model(), make_transform()

    def prepare(data: bytes) -> Tensor:
        return transform(Image.open(io.BytesIO(data)).convert("RGB"))

    def infer(images: Sequence[bytes]) -> list[tuple[float, int]]:
        with torch.inference_mode():
            best = model(torch.stack([prepare(data) for data in images])).softmax(1).max(1)
        return [*zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    return TransformWay(prepare, infer)


def served(
    stack: ExitStack, transform: Callable[[Image.Image], Tensor], decode: Literal["fast", "exact"]
) -> TransformWay:
    """Start an engine with the user's model and a transform; return the way through it."""
    config = PipelineConfig(device="cpu", decode=decode, decode_workers=len(os.sched_getaffinity(0)), spare_workers=0)
    model = ServedModel(make_model(), transform, Classify(WEIGHTS.meta["categories"], 1))
    engine = stack.enter_context(Engine(config, LIMITS, model=model))
    say(f"transform: {engine.transform_from}")

    def prepare(data: bytes) -> object:
        return decode_image(memoryview(data), engine.transform, LIMITS.max_image_pixels, users_own=transform)

    def infer(images: Sequence[bytes]) -> list[tuple[float, int]]:
        outcomes = [outcome for outcome in engine.infer(images) if isinstance(outcome, Prediction)]
        return [(outcome.result.scores[0], outcome.result.indices[0]) for outcome in outcomes]

    return TransformWay(prepare, infer)


def ways(stack: ExitStack) -> dict[str, TransformWay]:
    """Start all ways."""
    transform = make_transform()
    return {
        "a loop": loop(),
        "as it is, in the workers": served(stack, lambda image: transform(image), "fast"),  # a function is not read
        "recognised, exact": served(stack, transform, "exact"),
        "recognised, fast": served(stack, transform, "fast"),
    }


def requests(work: Work, name: str) -> list[bytes]:
    """Encode the photographs of a load in a format, repeated to a request."""
    options = FORMATS[name]
    files = [encoded(Image.open(io.BytesIO(data)), name, **options) for data in work.images]
    return (files * IMAGES)[:IMAGES]


def measure(tried: dict[str, TransformWay], images: Sequence[bytes], turns: int) -> dict[str, TimedTransform]:
    """Measure all ways in turn, after a request that does not count."""
    found = {name: TimedTransform() for name in tried}
    for name, way in tried.items():
        best = way.infer(images)
        found[name].scores, found[name].classes = [score for score, _ in best], [index for _, index in best]
    for _ in range(turns):
        for name, way in tried.items():
            timed = found[name]
            timed.request_ms += [
                1000 * taken_s for taken_s in seconds_of(partial(way.infer, images), runs=1, warm_up=0)
            ]
            some = images[:IMAGES_TIMED]
            work = partial(_each, way.prepare, some)
            spent_s = seconds_of_one_core(work, runs=1)
            timed.image_ms += [1000 * taken_s / len(some) for taken_s in spent_s]
    return found


def _each(work: Callable[[bytes], object], images: Sequence[bytes]) -> None:
    for data in images:
        work(data)


def row(title: str, found: dict[str, TimedTransform]) -> list[str]:
    """Format a row of the table."""
    _, as_it_is, exact, fast = found.values()
    cells = [
        f"{statistics.median(timed.request_ms):.0f} ms ({statistics.median(timed.image_ms):.2f} an image)"
        for timed in found.values()
    ]
    return [
        title,
        *cells,
        f"{_gain(as_it_is.image_ms, fast.image_ms):.1f}",
        f"{_gain(as_it_is.request_ms, fast.request_ms):.1f}",
        f"{_off(as_it_is, exact):.4f}",
        f"{_off(as_it_is, fast):.4f}",
        f"{sum(map(int.__eq__, as_it_is.classes, fast.classes))} of {len(fast.classes)}",
    ]


def _gain(before_ms: Sequence[float], after_ms: Sequence[float]) -> float:
    return statistics.median(before / after for before, after in zip(before_ms, after_ms, strict=True))


def _off(reference: TimedTransform, other: TimedTransform) -> float:
    return max(abs(one - two) for one, two in zip(reference.scores, other.scores, strict=True))


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.own_transform", __doc__)
    parser.add_argument("--turns", type=int, default=TURNS, help="measurements of each way")
    options = parser.parse_args(arguments)
    about, records, rows = circumstances("benchmarks.own_transform", arguments), list[dict[str, Any]](), []
    with ExitStack() as stack:
        tried = ways(stack)
        for work in (SMALL, PHONE):
            for name in FORMATS:
                title = f"{work.title.partition(',')[0]} {name}"
                found = measure(tried, requests(work, name), options.turns)
                rows.append(row(title, found))
                records += [{"images": title, "way": way, **asdict(timed)} for way, timed in found.items()]
                say(" | ".join(rows[-1]))
    publish("own_transform", about, records, HEADER, rows)
    return 0


if __name__ == "__main__":
    run(main)
