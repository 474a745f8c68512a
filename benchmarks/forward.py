"""Speed of models on one core by runtime and number format, alone and beside a thread that keeps the interpreter busy.

`python -m benchmarks.forward [MODEL ...]`, with names of torchvision. The ways are measured in turn, as the speed of a
machine drifts. Scores are compared with those of torchvision's model, for photographs. mobilenet_v2 has its own
weights, as `make serve` fetched them; other models have random ones, whose scores say nothing about their formats.
"""

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torchvision import models

from benchmarks.busy_interpreter import busy
from benchmarks.work import SMALL
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run, say
from harness.timing import seconds_of
from pipeline.config import PipelineConfig
from pipeline.images.decode import decode
from pipeline.live_limits import Limits
from pipeline.model.device import COMPUTED_BY_MODULES, ComputedAs
from pipeline.model.device_module import DeviceModule, dtype_name
from pipeline.model.precision import scenes
from pipeline.model.reference import COMPARED_IMAGES, Reference
from pipeline.model.runtime import CannotCompute, PreparedModel, TracedSource, reason_of
from pipeline.model.runtimes import RUNTIMES
from pipeline.model.served import ServedModel
from pipeline.model.source import load_model

WITH_WEIGHTS: Final = "mobilenet_v2"
MODELS: Final = (WITH_WEIGHTS, "resnet50", "convnext_tiny", "vit_b_32")
BATCHES: Final = (1, 4)
TURNS: Final = 3
MAX_TIMES_AS_LONG: Final = 4.0
"""Ratio of times for one image to torchvision's own above which a way is not measured with more images."""

BUSY: Final = 0.25
"""Share of the interpreter that the other thread takes, as the event loop of a replica that refuses much."""

HEADER: Final = (
    *("model", "way", "number format", "images", "ms an image", "of torchvision's own", "the same, beside"),
    *("largest score difference", "same class", "the same, of made-up images", "prepared in s"),
)


@dataclass(slots=True)
class Way:
    """A way of computing the model.

    Args:
        name: name in the table.
        dtype: name of the number format.
        prepared: the model, ready to be computed in this way.
        prepare_s: seconds that this took.
        quiet_ms: milliseconds an image, one value a turn, for the current batch.
        beside_ms: the same beside the busy thread.
        agreement: how far its scores are those of torchvision's model.
        left_out: reason for which its time is not measured.
    """

    name: str
    dtype: str
    prepared: PreparedModel
    prepare_s: float = 0.0
    quiet_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    agreement: Facts = field(default_factory=dict)
    left_out: str = ""


def loaded(model: str) -> ServedModel:
    """Load a classifier of torchvision, with random weights if it is not the one that is shipped."""
    if model == WITH_WEIGHTS:
        return load_model(PipelineConfig(model=model))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "random.pth")
        torch.save(models.get_model(model).state_dict(), weights)
        return load_model(PipelineConfig(model=model, weights=str(weights)))


def ways_of(served: ServedModel) -> Iterator[Way | Facts]:
    """Yield each way of computing the model, torchvision's own first, or a record of why one cannot be prepared.

    Torchvision's own has its weights in rows of channels, and one kernel a layer. Number formats in which torch is slow
    on this processor are compared, but not timed.
    """
    ours, spec = DeviceModule.of(served), served.preprocess.input_spec
    own = copy.deepcopy(ours)
    own.leave_channels_last()
    for name, module in (("as torchvision gives it", own), ("channels_last", ours)):
        yield Way(name, dtype_name(module.dtype), _as_modules(module))
    source, slow = TracedSource(ours, spec), set[torch.dtype]()
    for name, opened in RUNTIMES.items():
        runtime, title = opened(source, 1), f"runtime: {name}"
        try:
            dtypes = runtime.dtypes()
        except CannotCompute as error:
            yield {"way": title, "dtype": "", "left_out": reason_of(error)}
            continue
        for dtype in (dtype for dtype in dtypes if dtype not in slow):
            began_s = time.perf_counter()
            try:
                prepared = runtime.prepared(dtype, if_quick=True)
            except Exception as error:  # noqa: BLE001 - a library that cannot follow the model raises anything
                slow.add(dtype)
                left_out = Way(title, dtype_name(dtype), _as_modules(ours.computing_in(dtype)))
                left_out.left_out = reason_of(error)
                yield left_out
                continue
            yield Way(title, dtype_name(dtype), prepared, time.perf_counter() - began_s)


def _as_modules(module: DeviceModule) -> PreparedModel:
    return PreparedModel(module, module, ComputedAs(COMPUTED_BY_MODULES, dtype=dtype_name(module.dtype)))


def ms_an_image(way: Way, pixels: Tensor) -> float:
    """Measure milliseconds an image: the median of two runs after a warm-up."""
    with torch.inference_mode():
        return 1000 * statistics.median(seconds_of(lambda: way.prepared.compute(pixels), runs=2)) / len(pixels)


def compared(model: str, served: ServedModel) -> Iterator[Facts]:
    """Yield a record for each way and batch size."""
    photographs, ways = _photographs(served), list[Way]()
    made_up = scenes(COMPARED_IMAGES, served.preprocess.crop_px)
    for found in ways_of(served):
        if not isinstance(found, Way):
            yield {"model": model, **found}
            continue
        found.agreement = _agreement(found, (ways or [found])[0], photographs, made_up)
        if found.left_out:
            about = {"model": model, "way": found.name, "dtype": found.dtype, "left_out": found.left_out}
            yield {**about, **found.agreement}
        else:
            ways.append(found)
    for images in BATCHES:
        pixels = photographs[:images]
        for way in ways:
            way.quiet_ms, way.beside_ms = [], []
            way.prepared.prepare_for(images)
        for _ in range(TURNS):
            for way in ways:
                way.quiet_ms.append(ms_an_image(way, pixels))
                with busy(BUSY):
                    way.beside_ms.append(ms_an_image(way, pixels))
        for way in ways:
            ratios = [ours / theirs for ours, theirs in zip(way.quiet_ms, ways[0].quiet_ms, strict=True)]
            yield {
                "model": model,
                "way": way.name,
                "dtype": way.dtype,
                "images": images,
                "ms": statistics.median(way.quiet_ms),
                "of_own": statistics.median(ratios),
                "beside_ms": statistics.median(way.beside_ms),
                "prepare_s": way.prepare_s,
                **way.agreement,
            }
        own_ms = statistics.median(ways[0].quiet_ms)
        ways = [way for way in ways if statistics.median(way.quiet_ms) <= MAX_TIMES_AS_LONG * own_ms]


def _photographs(served: ServedModel) -> Tensor:
    """Decode photographs as the workers do: uint8 [n, side, side, 3]."""
    transform, most = served.preprocess.in_workers(PipelineConfig()), Limits().max_image_pixels
    return torch.from_numpy(np.stack([decode(memoryview(data), transform, most) for data in SMALL.images]))


def _agreement(ours: Way, own: Way, photographs: Tensor, made_up: Tensor) -> Facts:
    with torch.inference_mode():
        rows, expected = (way.prepared.module.named(way.prepared.compute(photographs)) for way in (ours, own))
        of_made_up = ours.prepared.module.named(ours.prepared.compute(made_up))
    return {
        "scores_off": Reference(own.prepared.module, photographs).difference(rows),
        "made_up_off": Reference(own.prepared.module, made_up).difference(of_made_up),
        "same": int((rows["classes"][:, 0] == expected["classes"][:, 0]).sum()),
        "photographs": len(photographs),
    }


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    name = [record["model"], record["way"], record["dtype"]]
    agrees = ["", "", ""]
    if "same" in record:
        same = f"{record['same']} of {record['photographs']}"
        agrees = [f"{record['scores_off']:.4f}", same, f"{record['made_up_off']:.4f}"]
    if "left_out" in record:
        return [*name, "", record["left_out"], "", "", *agrees, ""]
    times = [f"{record['ms']:.1f}", f"{record['of_own']:.2f}", f"{record['beside_ms']:.1f}"]
    return [*name, str(record["images"]), *times, *agrees, f"{record['prepare_s']:.1f}"]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.forward", __doc__)
    parser.add_argument("models", nargs="*", default=[*MODELS], help="torchvision's names")
    options = parser.parse_args(arguments)
    sys.setswitchinterval(0.0005)  # as in a replica
    torch.set_num_threads(1)
    about, records = circumstances("benchmarks.forward", arguments), list[Facts]()
    for model in options.models:
        for record in compared(model, loaded(model)):
            records.append(record)
            say(" | ".join(row(record)))
    rows = [row(record) for record in records]
    publish("forward", about, records, HEADER, rows)
    return 0


if __name__ == "__main__":
    run(main)
