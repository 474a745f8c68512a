"""Measures several processes on one GPU, each with its own model."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, Final, NamedTuple

import torch

from benchmarks.gpu.graph import graphed
from benchmarks.gpu.network import compute_in, network, pixels_of
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting, shortened
from harness.fake_cuda import pretend
from pipeline.model.folding import folded

_CEILING: Final = "one process on the GPU"
_START_TIMEOUT_S: Final = 60.0
"""Limit until all processes are warm."""


class SharingCase(NamedTuple):
    """A number of processes, and their batch size."""

    processes: int
    images: int

    def __str__(self) -> str:
        """Return the name in the table."""
        return f"{self.processes} processes on the GPU, batches of {self.images}"


CASES: Final = (
    SharingCase(1, 32),
    SharingCase(4, 32),
    SharingCase(8, 32),
    SharingCase(2, 128),
    SharingCase(2, 32),
    SharingCase(8, 16),
)
DRY_CASES: Final = (SharingCase(1, 1), SharingCase(2, 1))


@dataclass(frozen=True, slots=True)
class Share:
    """Result of one process."""

    per_s: float
    batch_s: float
    gib_in_use: float  # of the GPU's memory, by all processes


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all cases."""
    cases = DRY_CASES if setting.dry else CASES
    yield from setting.each(cases, partial(rate, setting=setting), needs_s=14.0)


def rate(case: SharingCase, setting: PartSetting) -> Figure:
    """Measure images a second of all processes together."""
    shares = shared(case, setting)
    per_s = sum(share.per_s for share in shares)
    batch_ms = 1e3 * statistics.median(share.batch_s for share in shares)
    gib = max(share.gib_in_use for share in shares)
    return Figure(
        str(case),
        per_s,
        "images/s",
        sets=_CEILING if case.processes == 1 else "",
        of=(_CEILING,),
        note=f"{batch_ms:.3g} ms a batch; {gib:.1f} GiB of the GPU in use",
        details={"processes": case.processes, "images": case.images, "batch_ms": batch_ms, "gib_in_use": gib},
    )


def shared(case: SharingCase, setting: PartSetting) -> list[Share]:
    """Run the processes of a case side by side, and end them."""
    context = multiprocessing.get_context("spawn")
    begin, out = context.Barrier(case.processes), context.Queue()
    arguments = (case, setting.dry, begin, out)
    processes = [context.Process(target=_compute, args=arguments, daemon=True) for _ in range(case.processes)]
    for process in processes:
        process.start()
    try:
        shares = [out.get(timeout=min(_START_TIMEOUT_S, max(5.0, setting.left_s - 5.0))) for _ in processes]
    finally:
        _end(processes)
    if errors := [share for share in shares if isinstance(share, str)]:
        raise RuntimeError(errors[0])
    return shares


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.join(3)
        with suppress(ProcessLookupError):
            process.kill()
        process.join()


def _compute(case: SharingCase, dry: bool, begin: Any, out: Any) -> None:
    """Run in each process: put its result or error into the queue; after an error the others do not wait."""
    try:
        with pretend() if dry else nullcontext(), torch.inference_mode():
            out.put(_share(case, dry, begin))
    except Exception as error:  # noqa: BLE001 - any error is reported by the parent process
        begin.abort()
        out.put(shortened(error))


def _share(case: SharingCase, dry: bool, begin: Any) -> Share:
    """Build the model, wait for the other processes, and compute."""
    name, form, for_s = ("mobilenet_v2", "float32", 0.5) if dry else ("resnet50", "float16", 2.5)
    torch.set_num_threads(1)
    compute_in(form)
    model, pixels = folded(network(name, form)), pixels_of(case.images)
    replay = graphed(model, pixels)
    replay()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    begin.wait(_START_TIMEOUT_S)
    taken_s = _batches_s(replay, for_s)
    return Share(case.images / statistics.mean(taken_s), statistics.median(taken_s), (total - free) / 2**30)


def _batches_s(replay: Any, for_s: float) -> list[float]:
    """Measure the seconds of each batch, one after another, waiting with a blocking event."""
    done, taken_s, ends_at = torch.cuda.Event(blocking=True), list[float](), time.perf_counter() + for_s
    while (began_at := time.perf_counter()) < ends_at:
        replay()
        done.record()
        done.synchronize()
        taken_s.append(time.perf_counter() - began_at)
    return taken_s
