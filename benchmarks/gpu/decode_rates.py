"""Measures decoding on the CPU: images a second of Darkroom's transform alone, in one process a core."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from benchmarks.limit import Limit
from benchmarks.work import PHONE, SMALL, Work

_WARM_UP_S = 0.3
_MEASURED_FOR_S = 1.0


def works(setting: PartSetting) -> tuple[Work, Work]:
    """Make photographs of 0.2 and 12 megapixels; in a dry run of 0.2 and 1."""
    large_px = (1155, 866)
    larger = replace(PHONE, title=f"{large_px[0]} x {large_px[1]}, one a request", sizes_px=(large_px,))
    return SMALL, larger if setting.dry else PHONE


def size_of(work: Work) -> str:
    """Return the size of a load's images, e.g. "500 x 375"."""
    across, down = work.sizes_px[0]
    return f"{across} x {down}"


def ceiling_of(work: Work) -> str:
    """Return the name by which other figures refer to the rate of all cores."""
    return f"decode {size_of(work)}"


def http_ceiling_of(work: Work, together: int) -> str:
    """Return the name by which other figures refer to the limit set by decoding and HTTP."""
    return f"{ceiling_of(work)} and HTTP, {together} a request"


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure each size on one core, on half of the cores and on all."""
    cores = len(os.sched_getaffinity(0))
    with Limit() as limit:
        for work in works(setting):
            images = work.images
            limit.per_s(images, for_s=_WARM_UP_S, clients=cores)
            one = 0.0
            for count in sorted({1, cores // 2 or 1, cores}):
                per_s = limit.per_s(images, for_s=_MEASURED_FOR_S / (2 if setting.dry else 1), clients=count)
                one = one or per_s
                yield Figure(
                    f"{size_of(work)} on {count} of {cores} cores",
                    per_s,
                    "images/s",
                    sets=ceiling_of(work) if count == cores else "",
                    note=f"{per_s / count:.4g} a core, {per_s / count / one:.2f} of one alone",
                    details={"work": size_of(work), "processes": count, "kib": _mean_kib(images)},
                )


def _mean_kib(images: Sequence[bytes]) -> int:
    sizes = [len(image) for image in images]
    return round(sum(sizes) / len(sizes) / 1024)
