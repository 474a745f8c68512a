"""Measures the gain of torch.compile over a CUDA graph of the model as it is. Needs a C++ compiler, Triton and time."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import torch

from benchmarks.gpu.event_timing import median_ms
from benchmarks.gpu.graph import graphed
from benchmarks.gpu.models import of_model
from benchmarks.gpu.network import compute_in, network, pixels_of
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from pipeline.model.folding import folded


class CompilingCase(NamedTuple):
    """A batch size, a mode of torch.compile, and the seconds that the case needs to be started."""

    images: int
    mode: str | None
    needs_s: float

    def __str__(self) -> str:
        """Return the name in the table."""
        return f"torch.compile, {self.images} images, mode {self.mode or 'default'}"


CASES: Final = (
    CompilingCase(32, None, 20.0),
    CompilingCase(256, None, 20.0),
    CompilingCase(256, "max-autotune-no-cudagraphs", 90.0),
)
DRY_CASES: Final = (CompilingCase(2, None, 1.0),)


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all cases."""
    for case in DRY_CASES if setting.dry else CASES:
        yield from setting.each([case], partial(rates_of, setting=setting), needs_s=case.needs_s)


def rates_of(case: CompilingCase, setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure the compiled model, launched kernel by kernel and as a CUDA graph."""
    model, form, runs = ("mobilenet_v2", "float32", 2) if setting.dry else ("resnet50", "float16", 9)
    compute_in(form)
    torch._dynamo.reset()
    pixels = pixels_of(case.images)
    if setting.dry:  # the compiler would look for the GPU's driver, and take a minute
        torch.compiler.set_stance("force_eager")
    compiled = torch.compile(folded(network(model, form)), mode=case.mode)
    began_at = time.perf_counter()
    with torch.inference_mode():
        compiled(pixels)
        torch.cuda.synchronize()
        first_s = time.perf_counter() - began_at
        ms = median_ms(partial(compiled, pixels), runs=runs)
        yield of_model(f"{case}, kernel by kernel", model, form, case.images, ms, first_s)
        ms = median_ms(graphed(compiled, pixels), runs=runs)
        yield of_model(f"{case}, as a graph", model, form, case.images, ms, first_s)
