"""Measures the time a thread needs to launch a model, alone and beside a thread that keeps the interpreter busy."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.busy_interpreter import busy
from benchmarks.gpu.graph import graphed
from benchmarks.gpu.network import compute_in, network, pixels_of
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from pipeline.input_spec import InputSpec
from pipeline.model.cuda_graph import settle
from pipeline.model.device_module import DeviceModule
from pipeline.model.torchscript import Compute, traced

_SWITCH_INTERVAL_S: Final = 0.0005
"""Seconds after which the interpreter changes to another thread, as in a replica."""

_BUSY_SHARES: Final = (0.0, 0.5, 0.9)
"""Shares of the interpreter that the other thread takes: an event loop that is idle, busy, and saturated."""

_CEILING: Final = "the quickest launch"


def costs(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure every way of launching, beside an increasingly busy interpreter."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    name, form, images = ("mobilenet_v2", "float32", 1) if setting.dry else ("resnet50", "float16", 32)
    compute_in(form)
    model, pixels = network(name, form), pixels_of(images)
    ways = ways_of(model, pixels)
    for share in _BUSY_SHARES:
        with busy(share):
            yield from setting.each(
                ways, partial(cost, ways, f"{name}, {form}, {images} images", share, setting), needs_s=2.0
            )


def ways_of(model: DeviceModule, pixels: Tensor) -> dict[str, Callable[[], Any]]:
    """Make the ways: kernel by kernel, as a TorchScript graph, as a CUDA graph."""
    return {
        "kernel by kernel": partial(model, pixels),
        "traced and frozen": partial(settled(traced(model, InputSpec.of(pixels)), pixels), pixels),
        "as a CUDA graph": graphed(model, pixels),
    }


def settled(compute: Compute, pixels: Tensor) -> Compute:
    """Make the first calls of a TorchScript model, in which TorchScript optimises it."""
    with torch.inference_mode():
        settle(compute, pixels)
    return compute


def cost(ways: Mapping[str, Callable[[], Any]], what: str, share: float, setting: PartSetting, way: str) -> Figure:
    """Measure the time from the call until the answers have arrived, and until the call returns."""
    work, host_ms, whole_ms = ways[way], list[float](), list[float]()
    with torch.inference_mode():
        work()
        torch.cuda.synchronize()
        for _ in range(3 if setting.dry else 10):
            began_at = time.perf_counter()
            work()
            host_ms.append(1e3 * (time.perf_counter() - began_at))
            torch.cuda.synchronize()
            whole_ms.append(1e3 * (time.perf_counter() - began_at))
    host = statistics.median(host_ms)
    return Figure(
        f"{what}, {way}, interpreter {share:.0%} busy",
        statistics.median(whole_ms),
        "ms",
        sets=_CEILING if not share else "",
        of=(_CEILING,),
        note=f"the call returns after {host:.3g} ms",
        details={"busy": share, "host_ms": host},
    )
