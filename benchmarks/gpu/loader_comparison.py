"""Compares a loop, a DataLoader per batch, and the engine on 32 photographs: the comparison behind Darkroom.

All use the same photographs and the same model (mobilenet_v2 with its weights) on the same GPU. A run ends when the
classes of all images are in host memory.
"""

import io
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from benchmarks.gpu.decode_rates import ceiling_of, size_of, works
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.work import SMALL
from harness.timing import seconds_of
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.live_limits import Limits
from pipeline.records import Prediction

REQUEST_IMAGES: Final = 32
DRY_REQUEST_IMAGES: Final = 4
WEIGHTS: Final = MobileNet_V2_Weights.IMAGENET1K_V1

Classes = list[int | None]
Classify = Callable[[Sequence[bytes]], Classes]


class LoaderWay(NamedTuple):
    """A way of classifying images, opened once and then run several times on the same images."""

    name: str
    opened: Callable[[], AbstractContextManager[Classify]]
    dtype: str = "float32"


class Timed(NamedTuple):
    """Median seconds of a way, and the resulting classes."""

    seconds: float
    classes: Classes


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all ways with both sizes. Each is opened once for both: an engine starts more slowly than it answers."""
    model = mobilenet_v2(weights=WEIGHTS).eval().cuda()
    together = DRY_REQUEST_IMAGES if setting.dry else REQUEST_IMAGES
    firsts: dict[str, Timed] = {}
    for way in ways(model, together, setting):
        if setting.left_s < (2.0 if setting.dry else 15.0):
            yield Missing(f"{together} images, {way.name}", "left out: no time left")
            continue
        with way.opened() as classify:
            for work in works(setting):
                images = [work.images[n % len(work.images)] for n in range(together)]
                timed = time_of(classify, images, runs=2 if setting.dry else 5 if work is SMALL else 2)
                first = firsts.setdefault(size_of(work), timed)
                of = (ceiling_of(work), f"model mobilenet_v2 {way.dtype}")
                yield figure(f"{together} images of {size_of(work)}, {way.name}", of, timed, first)


def ways(model: nn.Module, together: int, setting: PartSetting) -> list[LoaderWay]:
    """List the ways: a loop, the engine in three settings, and DataLoaders with few and with many workers."""
    cores = len(os.sched_getaffinity(0))
    settings: list[tuple[Literal["float32", "float16"], Literal["exact", "fast"]]]
    settings = [("float32", "exact"), ("float32", "fast"), ("float16", "fast")]
    few_and_many = sorted({min(4, cores), max(1, cores - 1)}, reverse=True)
    return [
        LoaderWay("one after another", partial(loop, model)),
        *(
            LoaderWay(
                f"Darkroom's engine, {dtype}, {decode}",
                partial(engine, dtype, decode, cores, together),
                dtype,
            )
            for dtype, decode in settings[: 1 if setting.dry else None]
        ),
        *(LoaderWay(f"a DataLoader of {n} workers per batch", partial(loader, model, n)) for n in few_and_many),
    ]


def time_of(classify: Classify, images: Sequence[bytes], runs: int) -> Timed:
    """Measure the median of several runs after a warm-up."""
    classes = classify(images)
    return Timed(statistics.median(seconds_of(partial(classify, images), runs=runs, warm_up=0)), classes)


def figure(what: str, of: tuple[str, ...], timed: Timed, first: Timed) -> Figure:
    """Make the figure of a way, compared with the first one."""
    images, times = len(timed.classes), first.seconds / timed.seconds
    same = sum(one == other for one, other in zip(timed.classes, first.classes, strict=True))
    return Figure(
        what,
        images / timed.seconds,
        "images/s",
        of=of,
        note=f"{timed.seconds:.4g} s; {times:.3g} times the first; {same} of {images} classes the same",
        details={"seconds": timed.seconds, "times": times, "same": same, "images": images},
    )


# ---- the ways -------------------------------------------------------------------------------------------------------


class Photographs(Dataset[Tensor]):
    """Data set that decodes and transforms a photograph when it is read, in the workers of a DataLoader."""

    def __init__(self, images: Sequence[bytes]) -> None:
        self._images, self._transform = images, WEIGHTS.transforms()

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        """Decode and transform one photograph: float32 [3, 224, 224]."""
        image: Tensor = self._transform(Image.open(io.BytesIO(self._images[index])).convert("RGB"))
        return image


@contextmanager
def loop(model: nn.Module) -> Iterator[Classify]:
    """Transform images one after another, then compute all of them: the simplest program."""

    def classify(images: Sequence[bytes]) -> Classes:
        photographs = Photographs(images)
        return _classes_of(model, torch.stack([photographs[n] for n in range(len(photographs))]))

    yield classify


@contextmanager
def loader(model: nn.Module, workers: int) -> Iterator[Classify]:
    """Transform the images of each batch with a new DataLoader."""

    def classify(images: Sequence[bytes]) -> Classes:
        batches = DataLoader(Photographs(images), batch_size=len(images), num_workers=workers, pin_memory=True)
        return [index for batch in batches for index in _classes_of(model, batch)]

    yield classify


@contextmanager
def engine(
    dtype: Literal["float32", "float16"], decode: Literal["exact", "fast"], workers: int, together: int
) -> Iterator[Classify]:
    """Run Darkroom's engine, started once."""
    sizes = (1, max(2, together // 4), together)
    config = PipelineConfig(device="cuda", dtype=dtype, decode=decode, batch_sizes=sizes, decode_workers=workers)
    with Engine(config, Limits(max_batch_size=together)) as started:

        def classify(images: Sequence[bytes]) -> Classes:
            outcomes = started.infer(images)
            return [outcome.result.indices[0] if isinstance(outcome, Prediction) else None for outcome in outcomes]

        yield classify


def _classes_of(model: nn.Module, batch: Tensor) -> Classes:
    with torch.inference_mode():
        classes: Classes = model(batch.to("cuda", non_blocking=True)).argmax(1).cpu().tolist()
    return classes
