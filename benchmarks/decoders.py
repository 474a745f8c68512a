"""JPEG decoders side by side: time on one core, and differences of pixels and scores.

The reference is the usual code for training: Pillow decodes the whole image, torchvision's transform resizes and crops.
Decoders are measured in turn, as the speed of a machine drifts.
"""

import io
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import version
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2.functional import center_crop, resize

from benchmarks.limit import TRANSFORM
from benchmarks.work import PHONE, SMALL, Work
from harness.circumstances import circumstances
from harness.command import Facts, parser_of, publish, run, say
from harness.repository import PEERS
from harness.timing import done_per_s
from pipeline.config import PipelineConfig
from pipeline.decode.memory import keep_freed_memory
from pipeline.images.decode import decode
from pipeline.images.geometry import dct_scale, resized
from pipeline.images.header import read_header
from pipeline.images.jpeg import decode_jpeg
from pipeline.images.resize import CropPlan, by_pillow, resize_fast
from pipeline.live_limits import Limits
from pipeline.model.device_module import DeviceModule
from pipeline.model.source import load_model

ROUNDS: Final = 7
MEASURED_FOR_S: Final = 0.5

Pixels = NDArray[np.uint8]
Way = Callable[[bytes], Pixels]
"""Decoder: a JPEG -> uint8 [224, 224, 3]."""


def torchvision_over_pillow(data: bytes) -> Pixels:
    """Decode the whole image with Pillow, resize and crop with torchvision: the reference."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(center_crop(resize(image, [TRANSFORM.resize_px]), [TRANSFORM.crop_px]))


def darkroom_exact(data: bytes) -> Pixels:
    """Decode as Darkroom does with `decode: exact`."""
    return decode(memoryview(data), replace(TRANSFORM, decode="exact"), Limits().max_image_pixels)


def darkroom_fast(data: bytes) -> Pixels:
    """Decode as Darkroom does with `decode: fast`."""
    return decode(memoryview(data), TRANSFORM, Limits().max_image_pixels)


def pillow_alone(data: bytes) -> Pixels:
    """Decode at a reduced size and resize the cropped part, both with Pillow."""
    return by_pillow(*_pillow(data), TRANSFORM)


def pillow_and_torch(data: bytes) -> Pixels:
    """Decode at a reduced size with Pillow, then resize with torch's kernel for uint8."""
    return resize_fast(*_pillow(data), TRANSFORM)


def simplejpeg_and_pillow(data: bytes) -> Pixels:
    """Decode at a reduced size with simplejpeg; Pillow resizes the cropped part."""
    header = read_header((data,), TRANSFORM.formats)
    size = (header.width, header.height)
    part = dct_scale(size, resized(*size, TRANSFORM.resize_px))
    pixels = decode_jpeg(memoryview(data), header, part)
    return by_pillow(pixels, _plan(header.width, header.height, part), TRANSFORM)


def torchcodec_and_torch(data: bytes) -> Pixels:
    """Decode the whole image with TorchCodec, which cannot reduce; torch's kernel resizes."""
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    decoded: torch.Tensor = import_module("torchcodec.decoders").decode_jpeg(encoded)
    _, height, width = decoded.shape
    return resize_fast(decoded.permute(1, 2, 0).numpy(), _plan(width, height), TRANSFORM)


def _pillow(data: bytes) -> tuple[Pixels, CropPlan]:
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    part = dct_scale(image.size, resized(width, height, TRANSFORM.resize_px))
    image.draft("RGB", (width // part, height // part))
    return np.array(image), _plan(width, height, part)


def _plan(width: int, height: int, part: int = 1) -> CropPlan:
    target, crop = resized(width, height, TRANSFORM.resize_px), TRANSFORM.crop_px
    left, top = (round((length - crop) / 2) for length in target)
    return CropPlan((width / part, height / part), target, left, top)


WAYS: Final[dict[str, Way]] = {
    "Pillow, torchvision's transform": torchvision_over_pillow,
    "Darkroom, decode: exact": darkroom_exact,
    "Darkroom, decode: fast": darkroom_fast,
    "Pillow reduced, Pillow's resize": pillow_alone,
    "Pillow reduced, torch's resize": pillow_and_torch,
    "simplejpeg reduced, Pillow's resize": simplejpeg_and_pillow,
    "TorchCodec, torch's resize": torchcodec_and_torch,
}
REFERENCE: Final = "Pillow, torchvision's transform"
OURS: Final = "Darkroom, decode: fast"

HEADER: Final = ("images", "way", "ms", "times ours", "off by, levels", "score off by", "same class")


@dataclass(frozen=True, slots=True)
class DecoderResult:
    """Figures of one decoder with images of one size.

    Args:
        work: title of the images.
        way: name of the decoder.
        ms: milliseconds of one core for an image; the median of the turns.
        times_ours: time relative to `decode: fast` in the same turn; the median of the turns.
        levels: mean difference of a value from the reference, of 255 levels.
        score: largest difference of the best class's score from the reference.
        same: number of images with the reference's best class.
        images: number of images.
    """

    work: str
    way: str
    ms: float
    times_ours: float
    levels: float
    score: float
    same: int
    images: int


def compare(work: Work, score: Callable[[Sequence[Pixels]], torch.Tensor]) -> list[DecoderResult]:
    """Compare all decoders with images of one size.

    Args:
        work: the images.
        score: pixels -> float32 [images, classes].
    """
    images, ms = work.images, dict[str, list[float]]({name: [] for name in WAYS})
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            ms[name].append(1000 / done_per_s(way, images, MEASURED_FOR_S))
    reference = [WAYS[REFERENCE](data) for data in images]
    scores = score(reference)
    best, results = scores.argmax(1), list[DecoderResult]()
    for name, way in WAYS.items():
        pixels = [way(data) for data in images]
        found = score(pixels)
        results.append(
            DecoderResult(
                work=work.title.partition(",")[0],
                way=name,
                ms=statistics.median(ms[name]),
                times_ours=statistics.median(theirs / ours for theirs, ours in zip(ms[name], ms[OURS], strict=True)),
                levels=float(np.mean([abs(a.astype(int) - b) for a, b in zip(pixels, reference, strict=True)])),
                score=float((found.gather(1, best[:, None]) - scores.gather(1, best[:, None])).abs().max()),
                same=int((found.argmax(1) == best).sum()),
                images=len(images),
            )
        )
    return results


def scored_by_mobilenet() -> Callable[[Sequence[Pixels]], torch.Tensor]:
    """Load mobilenet_v2; return the function that scores images for every class."""
    model = DeviceModule.of(load_model(PipelineConfig(max_top_k=1000)))

    def score(pixels: Sequence[Pixels]) -> torch.Tensor:
        with torch.inference_mode():
            best, classes = model(torch.from_numpy(np.stack(pixels)))
        return torch.zeros(best.shape).scatter(1, classes, best)

    return score


def row(result: DecoderResult) -> list[str]:
    """Format a row of the table."""
    return [
        result.work,
        result.way,
        f"{result.ms:.2f}",
        f"{result.times_ours:.2f}",
        f"{result.levels:.2f}",
        f"{result.score:.3f}",
        f"{result.same} of {result.images}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.decoders", __doc__)
    parser.parse_args(arguments)
    sys.path.append(str(PEERS / "decoders"))
    about = {**circumstances("benchmarks.decoders", arguments), **_versions("simplejpeg", "torchcodec")}
    torch.set_num_threads(1)
    keep_freed_memory()
    score, results = scored_by_mobilenet(), list[DecoderResult]()
    for work in (SMALL, PHONE):
        say(f"{work.title.partition(',')[0]}: {len(WAYS)} ways, {ROUNDS} turns")
        results += compare(work, score)
    rows = [row(result) for result in results]
    publish("decoders", about, [*map(asdict, results)], HEADER, rows)
    return 0


def _versions(*names: str) -> Facts:
    return {name: version(name) for name in names}


if __name__ == "__main__":
    run(main)
