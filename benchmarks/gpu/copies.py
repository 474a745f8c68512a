"""Measures copies from the slots to the GPU: page-locked or not, in pieces, and by slot numbers."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.gpu.event_timing import median_ms
from benchmarks.gpu.outcome import Figure, Missing
from benchmarks.gpu.part_setting import PartSetting
from pipeline.decode.slots import Slots
from pipeline.input_spec import InputSpec

BATCH_SIZE: Final = 32
"""Images in a batch."""

SIDE_PX: Final = 224
_CEILING: Final = "copy of all slots"
_BATCH_CEILING: Final = f"copy of {BATCH_SIZE} adjacent images"
_ROW_DTYPE: Final = torch.int64
"""Element type for gathering images: a kernel that moves single bytes would be slower than the copy."""


def rates(setting: PartSetting) -> Iterator[Figure | Missing]:
    """Measure all copies, with the slots of the service: 256 images in one shared mapping."""
    slots = Slots(16 if setting.dry else 256, InputSpec.of_pixels(SIDE_PX))
    slots.tensor.random_()
    device = torch.empty_like(slots.tensor, device="cuda")
    parts: dict[str, Callable[[], Figure | Iterable[Figure]]] = {
        "memory that is not page-locked": lambda: whole_copy("not page-locked", slots.tensor.clone(), device),
        "page-locking the slots": lambda: page_locking(slots.tensor),
        "memory page-locked by torch": lambda: whole_copy("page-locked by torch", pinned_like(slots.tensor), device),
        "the slots, page-locked": lambda: whole_copy("page-locked where it lies", slots.tensor, device),
        "pieces of a batch": lambda: pieces(slots.tensor, device, setting),
        "images by slot numbers": lambda: gathers(slots.tensor, device, setting),
    }
    try:
        yield from setting.each(parts, lambda name: parts[name](), needs_s=1.0)
    finally:
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaHostUnregister(slots.tensor.data_ptr())


def pinned_like(pixels: Tensor) -> Tensor:
    """Copy pixels to page-locked memory of torch."""
    return torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True).copy_(pixels)


def whole_copy(memory: str, host: Tensor, device: Tensor) -> Figure:
    """Measure the rate of copying all slots in one piece."""
    ms = median_ms(lambda: device.copy_(host, non_blocking=True))
    return Figure(
        f"copying {len(host)} images to the GPU from memory {memory}",
        host.nbytes / ms / 1e6,
        "GB/s",
        sets=_CEILING,
        of=(_CEILING,),
        note=f"is_pinned: {host.is_pinned()}; {ms:.3g} ms",
        details={"is_pinned": host.is_pinned(), "mib": host.nbytes >> 20},
    )


def page_locking(pixels: Tensor) -> Figure:
    """Measure time and memory of registering the slots: only the pixels may become resident, or the whole mapping."""
    before, began_at = _resident_kib(), time.perf_counter()
    code = int(torch.cuda.cudart().cudaHostRegister(pixels.data_ptr(), pixels.nbytes, 0))
    took_s, grown = time.perf_counter() - began_at, _resident_kib() - before
    if code:
        raise RuntimeError(f"cudaHostRegister of {pixels.nbytes} bytes failed with code {code}")
    return Figure(
        f"page-locking {len(pixels)} slots",
        1e3 * took_s,
        "ms",
        note=f"{pixels.nbytes >> 20} MiB of pixels; resident memory grew by {grown >> 10} MiB",
        details={"grown_kib": grown, "view_is_pinned": pixels[1:3].is_pinned()},
    )


def _resident_kib() -> int:
    """Read the resident memory of this process in KiB."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def pieces(pixels: Tensor, device: Tensor, setting: PartSetting) -> Iterator[Figure]:
    """Measure a batch in several places, copied piece by piece or in one call."""
    for count in (1, 4) if setting.dry else (1, 4, 16, 32):
        together = len(pixels) // 2 if setting.dry else BATCH_SIZE
        each = together // count
        firsts = [(7 * n * each) % (len(pixels) - each) for n in range(count)]
        sources = [pixels[first : first + each] for first in firsts]
        targets = [device[n * each : (n + 1) * each] for n in range(count)]

        def one_by_one(sources: list[Tensor] = sources, targets: list[Tensor] = targets) -> None:
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source, non_blocking=True)

        def in_one_call(sources: list[Tensor] = sources, targets: list[Tensor] = targets) -> None:
            torch._foreach_copy_(targets, sources, non_blocking=True)

        yield copied(f"{together} images in {count} pieces, a copy each", one_by_one, is_ceiling=count == 1)
        yield copied(f"{together} images in {count} pieces, in one call", in_one_call)


def gathers(pixels: Tensor, device: Tensor, setting: PartSetting) -> Iterator[Figure]:
    """Measure a batch in arbitrary slots, gathered on the GPU by slot numbers."""
    together = len(pixels) // 2 if setting.dry else BATCH_SIZE
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:together]
    index, out = chosen.cuda(), torch.empty_like(_rows(device)[:together])
    expected = pixels[chosen]

    def mirrored() -> None:
        device.copy_(pixels, non_blocking=True)
        torch.index_select(_rows(device), 0, index, out=out)

    gathered = partial(torch.index_select, _rows(device), 0, index, out=out)
    yield copied(f"{together} images: all slots copied, then gathered on the GPU", mirrored)
    yield copied(f"{together} images: gathered on the GPU, from a mirror that is there", gathered)
    out.zero_()
    out_of_slots = partial(torch.index_select, _rows(seen_by_the_gpu(pixels, setting)), 0, index, out=out)
    yield copied(f"{together} images: gathered by the GPU out of the slots, without a copy", out_of_slots)
    same = bool(torch.equal(out.view(torch.uint8).cpu().view(expected.shape), expected))
    yield Figure("gathered out of the slots, images that are right", together * same, f"of {together}")


def copied(what: str, work: Callable[[], Any], *, is_ceiling: bool = False) -> Figure:
    """Measure the time until a batch is on the GPU, and the time that the calling thread spends."""
    device_ms, host_ms = median_ms(work), []
    for _ in range(20):
        torch.cuda.synchronize()
        began_at = time.perf_counter()
        work()
        host_ms.append(1e3 * (time.perf_counter() - began_at))
    torch.cuda.synchronize()
    host = statistics.median(host_ms)
    return Figure(
        what,
        device_ms,
        "ms",
        sets=_BATCH_CEILING if is_ceiling else "",
        of=(_BATCH_CEILING,),
        note=f"the thread is at it for {host:.3g} ms",
        details={"host_ms": host},
    )


def seen_by_the_gpu(pixels: Tensor, setting: PartSetting) -> Tensor:
    """Make registered host memory a tensor of the GPU, which then reads it over the bus.

    cudaHostRegister maps memory into the GPU's address space, at the address that the host uses (unified addressing).
    """
    if setting.dry:
        return pixels  # the fake GPU has no addresses of its own
    return torch.as_tensor(_DeviceView(pixels), device="cuda")


class _DeviceView:
    """Host memory described as device memory: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels  # kept alive as long as the view
        self.__cuda_array_interface__ = {
            "shape": tuple(pixels.shape),
            "typestr": "|u1",
            "data": (pixels.data_ptr(), False),
            "version": 2,
        }


def _rows(pixels: Tensor) -> Tensor:
    """View the pixels as one row of eight-byte numbers per image."""
    return pixels.view(len(pixels), -1).view(_ROW_DTYPE)
