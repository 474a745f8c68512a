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
from pipeline.model.reference import Reference
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
    *("scores off by", "same class", "prepared in s"),
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
    """

    name: str
    dtype: str
    prepared: PreparedModel
    prepare_s: float = 0.0
    quiet_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    agreement: Facts = field(default_factory=dict)


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
    """Yield the ways, torchvision's own first: weights in rows of channels, one kernel a layer; or why one is left out.

    Number formats in which torch is slow on this processor are left out: an image takes 15 times as long.
    """
    ours, spec = DeviceModule.of(served), served.preprocess.input_spec
    own = copy.deepcopy(ours)
    own.leave_channels_last()
    for name, module in (("as torchvision gives it", own), ("channels_last", ours)):
        computed_as = ComputedAs(COMPUTED_BY_MODULES, dtype=dtype_name(module.dtype))
        yield Way(name, computed_as.dtype, PreparedModel(module, module, computed_as))
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
                yield {"way": title, "dtype": dtype_name(dtype), "left_out": reason_of(error)}
                continue
            yield Way(title, dtype_name(dtype), prepared, time.perf_counter() - began_s)


def ms_an_image(way: Way, pixels: Tensor) -> float:
    """Measure milliseconds an image: the median of two runs after a warm-up."""
    with torch.inference_mode():
        return 1000 * statistics.median(seconds_of(lambda: way.prepared.compute(pixels), runs=2)) / len(pixels)


def compared(model: str, served: ServedModel) -> Iterator[Facts]:
    """Yield a record for each way and batch size."""
    photographs, ways = _photographs(served), list[Way]()
    for found in ways_of(served):
        if isinstance(found, Way):
            ways.append(found)
        else:
            yield {"model": model, **found}
    for way in ways:
        way.agreement = _agreement(way, ways[0], photographs)
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


def _agreement(ours: Way, own: Way, photographs: Tensor) -> Facts:
    with torch.inference_mode():
        rows, expected = (way.prepared.module.named(way.prepared.compute(photographs)) for way in (ours, own))
    return {
        "scores_off": Reference(own.prepared.module, photographs).difference(rows),
        "same": int((rows["classes"][:, 0] == expected["classes"][:, 0]).sum()),
        "photographs": len(photographs),
    }


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    if "left_out" in record:
        return [record["model"], record["way"], record["dtype"], "", record["left_out"], "", "", "", "", ""]
    return [
        record["model"],
        record["way"],
        record["dtype"],
        str(record["images"]),
        f"{record['ms']:.1f}",
        f"{record['of_own']:.2f}",
        f"{record['beside_ms']:.1f}",
        f"{record['scores_off']:.4f}",
        f"{record['same']} of {record['photographs']}",
        f"{record['prepare_s']:.1f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
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
