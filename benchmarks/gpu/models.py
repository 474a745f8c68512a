"""Measures models on the GPU: images a second by model, number format, batch size, and as kernels or as one graph."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

import torch

from benchmarks.gpu.event_timing import median_ms
from benchmarks.gpu.graph import graphed
from benchmarks.gpu.network import compute_in, network, pixels_of
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from pipeline.model.device_module import DeviceModule
from pipeline.model.folding import folded


class ModelCase(NamedTuple):
    """A model in a number format, with batch sizes."""

    model: str
    form: str
    batches: tuple[int, ...]

    def __str__(self) -> str:
        """Return the name, e.g. "resnet50, float16"."""
        return f"{self.model}, {self.form}"


class ModelWay(NamedTuple):
    """A way of computing a batch."""

    name: str  # full name, for the table
    module: DeviceModule
    images: int
    as_graph: bool

    def __str__(self) -> str:
        """Return the name."""
        return self.name


MAIN_CASES: Final = (
    ModelCase("resnet50", "float16", (128,)),
    ModelCase("mobilenet_v2", "float16", (128,)),
    ModelCase("mobilenet_v2", "float32", (32,)),
    ModelCase("resnet50", "float16", (32, 256)),
    ModelCase("resnet50", "float32", (32,)),
)
"""Cases for comparison with the service, the most important figures first."""

ALL_CASES: Final = (
    ModelCase("resnet50", "float16", (1, 8, 32, 128, 256, 512)),
    ModelCase("resnet50", "bfloat16", (32, 256)),
    ModelCase("resnet50", "tf32", (32, 256)),
    ModelCase("resnet50", "float32", (32, 256)),
    ModelCase("mobilenet_v2", "float16", (1, 32, 128, 512)),
    ModelCase("mobilenet_v2", "bfloat16", (32, 128)),
    ModelCase("mobilenet_v2", "float32", (1, 32, 256)),
)
DRY_MAIN_CASES: Final = (ModelCase("mobilenet_v2", "float32", (2,)),)
DRY_ALL_CASES: Final = (ModelCase("mobilenet_v2", "tf32", (1,)), ModelCase("mobilenet_v2", "bfloat16", (1,)))


def main_rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure the models that the service is compared with."""
    return _rates(setting, DRY_MAIN_CASES if setting.dry else MAIN_CASES)


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all models."""
    return _rates(setting, DRY_ALL_CASES if setting.dry else ALL_CASES)


def _rates(setting: PartSetting, cases: Iterable[ModelCase]) -> Iterator[Figure | Missing]:
    return setting.each(cases, partial(rates_of, setting=setting))


def rates_of(case: ModelCase, setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure images a second of a model, for each batch size and way of computing."""
    compute_in(case.form)
    return setting.each(ways_of(case), partial(rate, case), needs_s=2.0)


def ways_of(case: ModelCase) -> Iterator[ModelWay]:
    """Yield for each batch size: kernel by kernel, as one graph, and as one graph with batch norm folded."""
    plain = network(case.model, case.form)
    quicker = folded(plain)
    for images in case.batches:
        name = f"{case}, {images} images"
        yield ModelWay(f"{name}, kernel by kernel", plain, images, as_graph=False)
        yield ModelWay(f"{name}, as a graph", plain, images, as_graph=True)
        yield ModelWay(f"{name}, folded, as a graph", quicker, images, as_graph=True)


def rate(case: ModelCase, way: ModelWay) -> Figure:
    """Measure images a second of one way."""
    pixels, began_at = pixels_of(way.images), time.perf_counter()
    with torch.inference_mode():
        work = graphed(way.module, pixels) if way.as_graph else partial(way.module, pixels)
        work()
        torch.cuda.synchronize()
        first_s = time.perf_counter() - began_at  # cuDNN's search included
        ms = median_ms(work, runs=9, inner=1 if way.images >= 128 else 5)
    return of_model(way.name, case.model, case.form, way.images, ms, first_s)


def of_model(what: str, model: str, form: str, images: int, ms: float, first_s: float) -> Figure:
    """Make the figure of a model that took `ms` for a batch."""
    ceiling = f"model {model} {form}"
    return Figure(
        what,
        1e3 * images / ms,
        "images/s",
        sets=ceiling,
        of=(ceiling,),
        note=f"{ms:.3g} ms a batch",
        details={"model": model, "form": form, "images": images, "ms": ms, "first_s": round(first_s, 2)},
    )
