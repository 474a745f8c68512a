"""Measures models of several kinds in the engine on the GPU, and compares their answers with those on the CPU.

The weights of detectors and of the segmentation model are random, with outputs that depend on the image.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import torch
from torchvision import models

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.work import SMALL
from harness.seeded_models import seeded_file
from harness.timing import seconds_of
from pipeline.config import PipelineConfig
from pipeline.engine import Engine
from pipeline.records import Prediction

_COMPARED_IMAGES: Final = 4
_TIMED_IMAGES: Final = 64
_BATCH_SIZES: Final = (1, 4, 16)
_SIDE_PX: Final = 224
_FITTED_PX: Final = 320
"""Shorter side for detectors and segmentation: at their own 520 to 800 the CPU would take most of the time."""

Settings = Mapping[str, Any]


class KindCase(NamedTuple):
    """A kind of model, and the function that writes its files and returns its settings."""

    name: str
    prepare: Callable[[Path], Settings]

    def __str__(self) -> str:
        """Return the name in the table."""
        return self.name


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all kinds."""
    cases = CASES[:2] if setting.dry else CASES
    yield from setting.each(cases, partial(rate, setting=setting), needs_s=3.0 if setting.dry else 12.0)


def rate(case: KindCase, setting: PartSetting) -> Figure:
    """Measure images a second of one kind, and the largest difference of an answer from the CPU's."""
    photographs = SMALL.images
    few = photographs[: 1 if setting.dry else _COMPARED_IMAGES]
    many = [photographs[at % len(photographs)] for at in range(len(few) if setting.dry else _TIMED_IMAGES)]
    with tempfile.TemporaryDirectory(prefix="darkroom-kinds-") as folder:
        settings = case.prepare(Path(folder))
        with Engine(_config(settings, "cpu")) as engine:
            expected = answers(engine, few)
        with Engine(_config(settings, "cuda")) as engine:
            found = answers(engine, few)
            took_s = statistics.median(seconds_of(partial(engine.infer, many), runs=5))
            start_s, computed_as = dict(engine.start_s), str(engine.computed_as)
    worst = max(difference(one, other) for one, other in zip(found, expected, strict=True))
    return Figure(
        f"{case.name}: {len(many)} images of 500 x 375 in the engine",
        len(many) / took_s,
        "images/s",
        note=f"answers differ from the CPU's by up to {worst:.2g}; {computed_as}; start {sum(start_s.values()):.1f} s",
        details={"difference": worst, "start_s": start_s, "computed_as": computed_as},
    )


def _config(settings: Settings, device: str) -> PipelineConfig:
    sizes = _BATCH_SIZES if device == "cuda" else (1,)
    common = {"device": device, "batch_sizes": sizes, "slots": 96, "decode_workers": 4, "runtime": "torch"}
    return PipelineConfig.model_validate(common | dict(settings))


def answers(engine: Engine, images: Sequence[bytes]) -> list[Any]:
    """Return the answers as JSON documents.

    Raises:
        RuntimeError: an image has none.
    """
    outcomes = engine.infer(images)
    for outcome in outcomes:
        if not isinstance(outcome, Prediction):
            raise RuntimeError(str(outcome))
    usual = {name: parameter.default for name, parameter in engine.head.parameters.items()}
    documents = [outcome.as_json(**usual) for outcome in outcomes if isinstance(outcome, Prediction)]
    return [orjson.loads(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)) for document in documents]


def difference(one: object, other: object) -> float:
    """Return the largest difference between numbers at the same place of two JSON documents.

    Text that differs, such as a mask, counts as 1; infinity if the documents have different forms.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        return max((difference(value, other[name]) for name, value in one.items()), default=0.0)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other)
    if isinstance(one, str) and isinstance(other, str):
        return float(one != other)
    return math.inf


# ---- the kinds ------------------------------------------------------------------------------------------------------


def _network() -> torch.nn.Module:
    network: torch.nn.Module = models.mobilenet_v2(weights=models.MobileNet_V2_Weights.IMAGENET1K_V1)
    return network.eval()


def _with_seeded_weights(folder: Path, name: str, classes: int) -> Settings:
    labels = folder / "labels.txt"
    labels.write_text("\n".join(f"class {number}" for number in range(classes)))
    weights = str(seeded_file(folder, name, classes))
    return {"model": name, "weights": weights, "labels": str(labels), "resize_px": _FITTED_PX}


def _as_program(folder: Path) -> Settings:
    path, batch = folder / "network.pt2", torch.export.Dim("batch", min=1, max=64)
    images = (torch.zeros(2, 3, _SIDE_PX, _SIDE_PX),)
    torch.export.save(torch.export.export(_network(), images, dynamic_shapes=({0: batch},)), path)
    return {"model": str(path), "resize_px": 256, "crop_px": _SIDE_PX, **_NORMALISED}


def _as_torchscript(folder: Path) -> Settings:
    path = folder / "network.pt"
    traced: Any = torch.jit.trace(_network(), torch.zeros(2, 3, _SIDE_PX, _SIDE_PX))  # type: ignore[no-untyped-call]
    traced.save(str(path))
    return {"model": str(path), "resize_px": 256, "crop_px": _SIDE_PX, **_NORMALISED}


_NORMALISED: Final = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_DETECTORS: Final = ("fasterrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large")

CASES: Final = (
    KindCase("mobilenet_v2 of torchvision", lambda _: {}),
    KindCase("mobilenet_v2, embeddings", lambda _: {"head": "embed"}),
    *(KindCase(name, partial(_with_seeded_weights, name=name, classes=91)) for name in _DETECTORS),
    KindCase("deeplabv3_resnet50", partial(_with_seeded_weights, name="deeplabv3_resnet50", classes=21)),
    KindCase("mobilenet_v2 by torch.export", _as_program),
    KindCase("mobilenet_v2 in TorchScript", _as_torchscript),
)
"""All kinds, the most valuable first."""
