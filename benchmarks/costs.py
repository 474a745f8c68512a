"""Estimated decoding times (costs) of images compared with measured ones: photographs, and the costliest files.

A time is processor time of one core, the best of several turns, in this process, which works like a decode worker. The
last column but one bounds the work that one request can cause: with as many images of the kind as `max_request_work_s`,
`max_request_bytes` and `max_images_per_request` allow.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import torch
from PIL import Image

from benchmarks.limit import TRANSFORM
from deployments.live_config import LiveConfig
from harness import table
from harness.circumstances import circumstances
from harness.command import RESULTS, parser_of, run, say, write
from harness.costly_images import COSTLY_FILES
from harness.photographs import encoded, jpeg, photograph
from harness.timing import seconds_of
from pipeline.decode.memory import FreedMemory, keep_freed_memory
from pipeline.images.cost import cost_s
from pipeline.images.decode import decode
from pipeline.images.header import read_header
from pipeline.records import Transform

ROUNDS: Final = 5
MEASURED_FOR_S: Final = 1.0
TRANSFORM_OF_ANY_FORMAT: Final = replace(TRANSFORM, formats=("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"))
DEFAULT_LIMITS: Final = LiveConfig()

HEADER: Final = ("file", "decode", "kB", "ms", "cost, ms", "cost / ms", "s a MB", "s a request", "MiB")


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated and measured time of decoding one file in one mode.

    Args:
        file: kind of the file.
        mode: "fast" or "exact".
        size: bytes of the file.
        ms: milliseconds of one core to decode and resize the file.
        cost_ms: milliseconds estimated from its header.
        peak_bytes: peak memory of decoding it.
    """

    file: str
    mode: str
    size: int
    ms: float
    cost_ms: float
    peak_bytes: int

    @property
    def ratio(self) -> float:
        """Ratio of the estimate to the measured time."""
        return self.cost_ms / self.ms

    @property
    def s_a_megabyte(self) -> float:
        """Seconds of a core that a client can cause with one megabyte."""
        return self.ms / 1e3 / (self.size / 1e6)

    @property
    def s_a_request(self) -> float:
        """Seconds of a core that a client can cause with one request, at most."""
        by_cost, by_size = (
            DEFAULT_LIMITS.max_request_work_s * 1e3 / self.cost_ms,
            DEFAULT_LIMITS.max_request_bytes / self.size,
        )
        return self.ms / 1e3 * int(min(by_cost, by_size, DEFAULT_LIMITS.max_images_per_request))


def photographs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield ordinary files by kind."""
    for title, size in (
        ("0.2 megapixels", (500, 375)),
        ("12 megapixels", (4000, 3000)),
        ("49 megapixels", (8000, 6125)),
    ):
        yield f"jpeg, {title}", partial(_photograph, size, "JPEG", quality=90)
        yield f"jpeg, progressive, {title}", partial(_photograph, size, "JPEG", quality=90, progressive=True)
    for title, size in (("0.2 megapixels", (500, 375)), ("12 megapixels", (4000, 3000))):
        yield f"png, {title}", partial(_photograph, size, "PNG")
        yield f"webp, {title}", partial(_photograph, size, "WEBP", quality=85)
    yield "webp, lossless, 2 megapixels", partial(_photograph, (1600, 1200), "WEBP", lossless=True, method=0)
    yield "gif, 12 megapixels", partial(_photograph, (4000, 3000), "GIF")
    yield "bmp, 3 megapixels", partial(_photograph, (2000, 1500), "BMP")
    yield "avif, 12 megapixels", partial(_photograph, (4000, 3000), "AVIF", speed=10)


def _photograph(size: tuple[int, int], file_format: str, **options: object) -> bytes:
    picture = photograph("temple").resize(size, Image.Resampling.LANCZOS)
    return jpeg(picture, **options) if file_format == "JPEG" else encoded(picture, file_format, **options)


def measure(name: str, file: bytes, transform: Transform) -> Cost:
    """Decode a file several times; the best turn counts, as the others were disturbed."""
    freed, data = FreedMemory(), memoryview(file)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory (proc_pid_clear_refs(5))
    before = _status_bytes("VmRSS")
    work = partial(decode, data, transform, DEFAULT_LIMITS.max_image_pixels)
    taken_s = seconds_of(work, runs=1, warm_up=0, clock=time.process_time)
    taken_s += seconds_of(
        work, runs=min(ROUNDS - 1, int(MEASURED_FOR_S / taken_s[0])), warm_up=0, clock=time.process_time
    )
    peak = _status_bytes("VmHWM") - before
    freed.give_back()
    cost_ms = cost_s(read_header([file], transform.formats), transform) * 1e3
    return Cost(name, transform.decode, len(file), 1e3 * min(taken_s), cost_ms, peak)


def _status_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10 if found else 0


def row(cost: Cost) -> list[str]:
    """Format a row of the table."""
    return [
        cost.file,
        cost.mode,
        f"{cost.size / 1e3:.1f}",
        f"{cost.ms:.1f}",
        f"{cost.cost_ms:.1f}",
        f"{cost.ratio:.2f}",
        f"{cost.s_a_megabyte:.3g}",
        f"{cost.s_a_request:.1f}",
        f"{cost.peak_bytes / 2**20:.0f}",
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = parser_of("benchmarks.costs", __doc__)
    parser.add_argument("--kinds", default="", help="a part of the names of files; others are left out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    costs = []
    for name, make in (*photographs(), *COSTLY_FILES.items()):
        if options.kinds in name:
            say(name)
            file = make()
            costs += [measure(name, file, replace(TRANSFORM_OF_ANY_FORMAT, decode=mode)) for mode in ("fast", "exact")]
    about = circumstances("benchmarks.costs", arguments)
    rows = [row(cost) for cost in costs]
    if not options.kinds:
        write(RESULTS / "costs", [about, *map(asdict, costs)], table.markdown(HEADER, rows))
    sys.stdout.write(table.markdown(HEADER, rows))
    return 0


if __name__ == "__main__":
    run(main)
