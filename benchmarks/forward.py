"""Speed of several ways to compute a model on one core, alone and beside a thread that keeps the interpreter busy.

`python -m benchmarks.forward [MODEL ...]`. The ways are measured in turn, as the speed of a machine drifts. Their
scores are compared with those of torchvision's model, for photographs and for the synthetic images of `dtype: auto`.
"""

import copy
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.busy_interpreter import busy
from benchmarks.work import SMALL
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run, say
from harness.timing import seconds_of
from pipeline.config import PipelineConfig
from pipeline.images.decode import decode
from pipeline.live_limits import Limits
from pipeline.model.classify import Classify
from pipeline.model.device_module import DeviceModule
from pipeline.model.precision import scenes
from pipeline.model.reference import COMPARED_IMAGES
from pipeline.model.served import ServedModel
from pipeline.model.source import load_model
from pipeline.model.torchscript import Compute, as_graph

BATCHES: Final = (1, 2, 4, 8)
TURNS: Final = 5
HOPELESS: Final = 4.0
"""Ratio of times for one image above which a way is not measured with larger batches."""

BUSY: Final = 0.25
"""Share of the interpreter that the other thread takes, as the event loop of a replica that refuses much."""

HEADER: Final = ("model", "way", "images", "ms an image", "the same, beside", "scores off by", "same class", "made up")


@dataclass(slots=True)
class Way:
    """A way of computing the model.

    Args:
        name: name in the table.
        compute: uint8 [n, side, side, 3] -> scores and classes, best first, as `Classify`.
        score: uint8 [n, side, side, 3] -> float32 [n, classes].
        quiet_ms: milliseconds an image, one value a turn, for the current batch.
        beside_ms: the same beside the busy thread.
        hopeless: whether the way is too slow to be measured further.
    """

    name: str
    compute: Compute
    score: DeviceModule
    quiet_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    hopeless: bool = False


def ways_of(served: ServedModel) -> list[Way]:
    """List the ways; the first is torchvision's: weights in rows of channels, float32, one kernel a layer."""
    ours, spec = DeviceModule.of(served), served.preprocess.input_spec
    plain = copy.deepcopy(ours)
    plain.module.to(memory_format=torch.contiguous_format)
    found = [
        Way("as torchvision gives it", plain, plain),
        Way("channels_last", ours, ours),
        Way("the same as a graph, batch norm folded", as_graph(ours, spec), ours),
    ]
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        smaller = ours.computing_in(dtype)
        found.append(Way(f"the same in {name}", as_graph(smaller, spec), smaller))
    return found


def ms_an_image(compute: Compute, pixels: Tensor) -> float:
    """Measure milliseconds an image: the median of three runs after a warm-up."""
    with torch.inference_mode():
        return 1000 * statistics.median(seconds_of(lambda: compute(pixels), runs=3)) / len(pixels)


def compared(model: str, served: ServedModel) -> Iterator[Facts]:
    """Yield a record for each way and batch size."""
    photographs, made_up = _photographs(served), scenes(COMPARED_IMAGES, served.preprocess.crop_px)
    ways = ways_of(served)
    for images in BATCHES:
        pixels = photographs.repeat(-(-images // len(photographs)), 1, 1, 1)[:images]
        tried = [way for way in ways if not way.hopeless]
        for way in tried:
            way.quiet_ms, way.beside_ms = [], []
        for _ in range(TURNS):
            for way in tried:
                way.quiet_ms.append(ms_an_image(way.compute, pixels))
                with busy(BUSY):
                    way.beside_ms.append(ms_an_image(way.compute, pixels))
        first_ms = statistics.median(tried[0].quiet_ms)
        for way in tried:
            ms = statistics.median(way.quiet_ms)
            way.hopeless = ms > HOPELESS * first_ms
            yield {
                "model": model,
                "way": way.name,
                "images": images,
                "ms": ms,
                "beside_ms": statistics.median(way.beside_ms),
                **_agreement(way.score, ways[0].score, photographs),
                "made_up_off": _agreement(way.score, ways[0].score, made_up)["scores_off"],
            }


def _photographs(served: ServedModel) -> Tensor:
    """Decode photographs as the workers do: uint8 [n, side, side, 3]."""
    transform, most = served.preprocess.in_workers(PipelineConfig()), Limits().max_image_pixels
    return torch.from_numpy(np.stack([decode(memoryview(data), transform, most) for data in SMALL.images]))


def _agreement(ours: DeviceModule, reference: DeviceModule, photographs: Tensor) -> Facts:
    with torch.inference_mode():
        scores, expected = (cast(Classify, each.head).scores(each.outputs(photographs)) for each in (ours, reference))
    return {
        "scores_off": float((scores - expected).abs().max()),
        "same": int((scores.argmax(1) == expected.argmax(1)).sum()),
        "photographs": len(photographs),
    }


def row(record: Facts) -> list[str]:
    """Format a row of the table."""
    return [
        record["model"],
        record["way"],
        str(record["images"]),
        f"{record['ms']:.1f}",
        f"{record['beside_ms']:.1f}",
        f"{record['scores_off']:.4f}",
        f"{record['same']} of {record['photographs']}",
        f"{record['made_up_off']:.4f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = parser_of("benchmarks.forward", __doc__)
    parser.add_argument("models", nargs="*", default=["mobilenet_v2"], help="torchvision's names")
    options = parser.parse_args(arguments)
    sys.setswitchinterval(0.0005)  # as in a replica
    torch.set_num_threads(1)
    about, records = circumstances("benchmarks.forward", arguments), list[Facts]()
    for model in options.models:
        for record in compared(model, load_model(PipelineConfig(model=model))):
            records.append(record)
            say(" | ".join(row(record)))
    rows = [row(record) for record in records]
    publish("forward", about, records, HEADER, rows)
    return 0


if __name__ == "__main__":
    run(main)
