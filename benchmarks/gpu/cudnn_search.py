"""Measures what cuDNN's search for kernels costs at the start, and what the kernels that it finds gain.

With `torch.backends.cudnn.benchmark` torch times up to `benchmark_limit` kernels for each convolution and batch size;
without it cuDNN chooses by rules.
"""

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import torch

from benchmarks.gpu.event_timing import median_ms
from benchmarks.gpu.graph import graphed
from benchmarks.gpu.network import compute_in, network, pixels_of
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting

_LIMITS: Final = (10, 0, 3)
"""Kernels tried for each convolution; 10 is torch's default, 0 means no search."""


class SearchCase(NamedTuple):
    """A model in a number format, a batch size, and a limit on the kernels tried."""

    model: str
    form: str
    images: int
    limit: int

    def __str__(self) -> str:
        """Return the name in the table."""
        tried = f"up to {self.limit} kernels tried" if self.limit else "no search"
        return f"{self.model}, {self.form}, {self.images} images, as a graph, {tried}"

    @property
    def ceiling(self) -> str:
        """Name of the speed of this model and batch size with the usual search."""
        return f"{self.model} {self.form} {self.images} with the usual search"


_LOADS: Final = (
    ("efficientnet_b0", "float16", 32),
    ("resnet50", "float32", 32),
    ("resnet50", "bfloat16", 32),
    ("mobilenet_v2", "float16", 32),
    ("mobilenet_v2", "float32", 32),
    ("resnet50", "float16", 32),
)
CASES: Final = tuple(SearchCase(*load, limit) for load in _LOADS for limit in _LIMITS)
DRY_CASES: Final = (SearchCase("mobilenet_v2", "float32", 1, 10), SearchCase("mobilenet_v2", "float32", 1, 0))


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all cases."""
    yield from setting.each(
        DRY_CASES if setting.dry else CASES, rate_in_own_thread, needs_s=2.0 if setting.dry else 8.0
    )


def rate_in_own_thread(case: SearchCase) -> Figure:
    """Measure a case in a thread of its own, as torch keeps the results of a search for each thread."""
    found: list[Figure | Exception] = []

    def measure() -> None:
        try:
            found.append(rate(case))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            found.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def rate(case: SearchCase) -> Figure:
    """Measure the first forward pass, and images a second as a graph."""
    compute_in(case.form)
    torch.backends.cudnn.benchmark = case.limit > 0
    torch.backends.cudnn.benchmark_limit = case.limit
    module, pixels = network(case.model, case.form), pixels_of(case.images)
    torch.cuda.synchronize()
    began_at = time.perf_counter()
    with torch.inference_mode():
        module(pixels)
        torch.cuda.synchronize()
        first_s = time.perf_counter() - began_at
        work = graphed(module, pixels)
        work()
        torch.cuda.synchronize()
        ms = median_ms(partial(work), runs=9, inner=5)
    return Figure(
        str(case),
        1e3 * case.images / ms,
        "images/s",
        sets=case.ceiling if case.limit == _LIMITS[0] else "",
        of=(case.ceiling,),
        note=f"{ms:.3g} ms a batch; the first one took {first_s:.2f} s",
        details={"ms": ms, "first_s": round(first_s, 3), "limit": case.limit},
    )
