"""Measures JPEG decoding on the GPU (nvJPEG, through torchvision): images a second, and pixel differences."""

import statistics
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.decode_rates import ceiling_of, size_of, works
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.work import Work
from harness.timing import seconds_of

_TIMED_RUNS: Final = 5


class NvjpegCase(NamedTuple):
    """Photographs of one size, decoded several at a time."""

    work: Work
    images: int

    def __str__(self) -> str:
        """Return the name in the table."""
        return f"nvJPEG, {size_of(self.work)}, {self.images} images at a time"


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all cases."""
    small, large = works(setting)
    cases = (
        [NvjpegCase(small, 2)]
        if setting.dry
        else [NvjpegCase(small, n) for n in (1, 32, 128)] + [NvjpegCase(large, n) for n in (1, 32)]
    )
    yield from setting.each(cases, partial(rate, setting=setting))


def rate(case: NvjpegCase, setting: PartSetting) -> Figure:
    """Measure images a second of one case: decoded to full size, not yet resized."""
    device = "cpu" if setting.dry else "cuda"  # the fake GPU has no nvJPEG
    files = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in case.work.images]
    together = [files[n % len(files)] for n in range(case.images)]
    expected = decoded([files[0]], "cpu")[0].float()

    def decode() -> None:
        decoded(together, device)
        torch.cuda.synchronize()

    taken_s = seconds_of(decode, runs=_TIMED_RUNS)
    off = float((decoded(together, device)[0].float().cpu() - expected).abs().mean())
    return Figure(
        str(case),
        case.images / statistics.median(taken_s),
        "images/s",
        of=(ceiling_of(case.work),),
        note=f"pixels are off by {off:.2g} levels on average; full size, without the resize",
        details={"images": case.images, "mean_off": off},
    )


def decoded(files: list[Tensor], device: str) -> list[Tensor]:
    """Decode files, each to uint8 [3, height, width]."""
    from torchvision.io import ImageReadMode, decode_jpeg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since 0.29; TorchCodec's decoder takes its place
        images: list[Tensor] = decode_jpeg(files, mode=ImageReadMode.RGB, device=device)
    return images
