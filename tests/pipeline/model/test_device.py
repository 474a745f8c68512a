"""Tests of the device that runs the model: the same rules for the CPU and for CUDA."""

import time
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from pipeline.decode.slots import Slots
from pipeline.errors import DeviceFailure
from pipeline.input_spec import InputSpec
from pipeline.model.classify import Classify
from pipeline.model.cuda import CudaDevice
from pipeline.model.device import BatchOutput, Device, collect
from pipeline.model.device_kind import open_device
from pipeline.model.device_module import DeviceModule
from pipeline.model.intake import Normalise
from tests.support.device_kinds import device_of, needs_gpu

SIDE, CLASSES = 16, 7
SPEC = InputSpec.of_pixels(SIDE)
NEAR = 1e-4
"""Tolerance of a score. Two images differ by far more; see `test_images_can_be_told_apart`."""

NEAR_IN_BFLOAT16 = 1e-2

SIZES = (1, 2, 4, 8)


def classifier(top_k: int = CLASSES, dtype: torch.dtype = torch.float32) -> DeviceModule:
    """Return a small model in which every pixel counts, the same each time."""
    torch.manual_seed(3)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, CLASSES))
    return DeviceModule(backbone.eval(), Classify((), top_k), Normalise((0.5, 0.5, 0.5), (0.1, 0.1, 0.1)), dtype)


def opened(kind: str, top_k: int = CLASSES) -> Device:
    device = open_device(kind, classifier(top_k), batch_sizes=SIZES, spec=SPEC, concurrent_batches=1)
    device.warm_up()
    return device


def noise(images: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (images, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)


def expected(pixels: Tensor) -> Tensor:
    """Return float32 [n, classes]: the softmax of every class, in the order of classes, one image after another."""
    rows = []
    with torch.inference_mode():
        for image in pixels:
            scores, classes = classifier()(image[None])
            rows.append(torch.empty_like(scores).scatter_(1, classes, scores))
    return torch.cat(rows)


def answered(device: Device, pieces: list[Tensor]) -> Tensor:
    """Return the device's scores in the same form."""
    return in_order_of_classes(collect(device.launch(pieces)))


def in_order_of_classes(output: BatchOutput) -> Tensor:
    scores, classes = output.rows["scores"], output.rows["classes"]
    return torch.empty(len(scores), CLASSES).scatter_(1, classes, scores)


def test_images_can_be_told_apart() -> None:
    """The scores of no two test images are close enough to be confused."""
    rows = expected(torch.cat([noise(8, seed) for seed in range(20)]))
    distances = torch.cdist(rows, rows, p=float("inf")) + torch.eye(len(rows))
    assert distances.min() > 4 * NEAR


@pytest.mark.parametrize("images", range(1, 9))
def test_a_batch_of_any_size_is_answered(kind: str, images: int) -> None:
    """A batch of any size is answered, also between the warmed sizes: padding never shows."""
    pixels = noise(images)
    got = answered(opened(kind), [pixels])
    torch.testing.assert_close(got, expected(pixels), atol=NEAR, rtol=0)


def test_in_bfloat16_scores_are_near_those_of_float32(kind: str) -> None:
    pixels = noise(8)
    device = open_device(kind, classifier(dtype=torch.bfloat16), batch_sizes=SIZES, spec=SPEC, concurrent_batches=1)
    device.warm_up()
    got = answered(device, [pixels])
    torch.testing.assert_close(got, expected(pixels), atol=NEAR_IN_BFLOAT16, rtol=0)


def test_pieces_are_answered_in_their_order(kind: str) -> None:
    """Several pieces of memory make one batch, answered in the order of the pieces."""
    pixels = noise(8)
    pieces = [pixels[5:8], pixels[0:1], pixels[2:4]]
    got = answered(opened(kind), pieces)
    torch.testing.assert_close(got, expected(pixels[[5, 6, 7, 0, 2, 3]]), atol=NEAR, rtol=0)


def test_a_smaller_batch_after_a_larger_is_its_own(kind: str) -> None:
    """A smaller batch after a larger one shows none of the older images."""
    device = opened(kind)
    for turn, images in enumerate((8, 1, 5, 3, 8, 2)):
        pixels = noise(images, seed=turn)
        got = answered(device, [pixels])
        torch.testing.assert_close(got, expected(pixels), atol=NEAR, rtol=0)


def test_only_the_best_classes_come_back(kind: str) -> None:
    pixels = noise(3)
    rows = collect(opened(kind, top_k=2).launch([pixels])).rows
    best = expected(pixels).topk(2)
    assert rows["classes"].equal(best.indices)
    torch.testing.assert_close(rows["scores"], best.values, atol=NEAR, rtol=0)


def test_what_the_device_took_is_told(kind: str) -> None:
    """Copy time and model time are reported, and together are no longer than the call."""
    device, began_at = opened(kind), time.perf_counter()
    timings = collect(device.launch([noise(2), noise(6)])).timings
    assert timings.copy_s > 0
    assert timings.model_s > 0
    assert timings.copy_s + timings.model_s <= time.perf_counter() - began_at


def test_as_many_batches_as_are_allowed_wait_on_the_device(kind: str) -> None:
    """Batches that were launched ahead keep their answers apart, whichever is collected first."""
    device = opened(kind)
    for turn in range(4):
        batches = [noise(4, seed=10 * turn + n) for n in range(1 + device.ahead)]
        launched = [device.launch([pixels]) for pixels in batches]
        for pixels, batch in zip(batches, launched, strict=True):
            got = in_order_of_classes(collect(batch))
            torch.testing.assert_close(got, expected(pixels), atol=NEAR, rtol=0)


def test_slots_are_read_where_they_lie(kind: str) -> None:
    """Slots are page-locked on CUDA and read without a copy in between; afterwards they are unlocked."""
    device, slots = opened(kind), Slots(8, SPEC)
    unlock = device.page_lock(slots.tensor)
    try:
        assert slots.tensor[2:5].is_pinned() == (kind == "cuda")
        slots.pixels[:] = noise(8).numpy()
        got = answered(device, [slots.tensor[2:5]])
    finally:
        unlock()
    torch.testing.assert_close(got, expected(noise(8)[2:5]), atol=NEAR, rtol=0)
    assert not slots.tensor.is_pinned()


@pytest.mark.cuda
@needs_gpu("only there copies and kernels run at the same time")
def test_nothing_is_read_before_it_has_been_copied() -> None:
    """Slots and staging buffers are not refilled while they are read: the hazard in the docstring of `cuda.py`.

    Every batch lies in the same page-locked slots and differs from the one before it. They are refilled as soon as
    `collect` returns. The device is kept so busy that a copy without a wait would come too late.
    """
    device = opened("cuda")
    assert isinstance(device, CudaDevice)
    slots = Slots(16, SPEC)
    unlock = device.page_lock(slots.tensor)
    busy = torch.zeros(4096, 4096, device="cuda")
    try:
        for turn in range(50):
            halves = [noise(8, seed=2 * turn), noise(8, seed=2 * turn + 1)]
            launched = []
            for half, pixels in enumerate(halves):
                slots.tensor[8 * half : 8 * half + 8] = pixels
                with torch.cuda.stream(device._copies if turn % 2 else device._kernels):
                    busy @ busy
                launched.append(device.launch([slots.tensor[8 * half : 8 * half + 8]]))
            for half, batch in enumerate(launched):
                got = in_order_of_classes(collect(batch))
                slots.tensor[8 * half : 8 * half + 8] = 255
                torch.testing.assert_close(got, expected(halves[half]), atol=NEAR, rtol=0)
    finally:
        unlock()


def profiled(activity: torch.profiler.ProfilerActivity) -> torch.profiler.profile:
    """Record a trace; torch 2.11 warns if it is not told to keep its events."""
    return torch.profiler.profile(activities=[activity], acc_events=True)


def test_a_trace_is_taken_without_a_warning() -> None:
    """A trace is taken without a warning, here on the CPU; on a GPU the next test would fail by one."""
    with profiled(torch.profiler.ProfilerActivity.CPU) as trace:
        torch.ones(2) + 1
    assert any(event.name == "aten::add" for event in trace.events() or ())


@pytest.mark.cuda
@needs_gpu("only there copies and kernels run at the same time")
def test_a_batch_is_copied_while_another_is_computed() -> None:
    """A batch is copied while another is computed: a trace shows a copy within a kernel of another stream."""
    torch.manual_seed(3)
    backbone = nn.Sequential(
        nn.Conv2d(3, 256, 3, padding=1), nn.Conv2d(256, 256, 3, padding=1), nn.AdaptiveAvgPool2d(1)
    )
    network = nn.Sequential(backbone, nn.Flatten())
    model = DeviceModule(network, Classify((), CLASSES), Normalise((0.5,) * 3, (0.1,) * 3), torch.float32)
    side, images = 224, 32
    device, slots = (
        open_device("cuda", model, batch_sizes=(images,), spec=InputSpec.of_pixels(side), concurrent_batches=1),
        Slots(2 * images, InputSpec.of_pixels(side)),
    )
    unlock = device.page_lock(slots.tensor)
    try:
        device.warm_up()
        with profiled(torch.profiler.ProfilerActivity.CUDA) as trace:
            ahead = device.launch([slots.tensor[:images]])
            for turn in range(1, 8):
                launched = device.launch([slots.tensor[images * (turn % 2) :][:images]])
                collect(ahead)
                ahead = launched
            collect(ahead)
    finally:
        unlock()
    on_device = [event for event in trace.events() or () if event.device_type.name == "CUDA"]
    copies = [event.time_range for event in on_device if "Memcpy HtoD" in event.name]
    kernels = [event.time_range for event in on_device if "Mem" not in event.name]
    assert len(copies) >= 8
    assert any(copy.start < kernel.end and kernel.start < copy.end for copy in copies for kernel in kernels)


@pytest.mark.cuda
def test_memory_that_cannot_be_locked_is_reported() -> None:
    """Memory that cannot be page-locked, here because it is locked already, is reported with CUDA's error code."""
    with device_of("cuda"):
        device, slots = opened("cuda"), Slots(1, SPEC)
        unlock = device.page_lock(slots.tensor)
        try:
            with pytest.raises(
                DeviceFailure, match=rf"^cudaHostRegister of {SIDE * SIDE * 3} bytes failed with code \d+"
            ):
                device.page_lock(slots.tensor)
        finally:
            unlock()
            with suppress(RuntimeError):  # CUDA reports its last error again with the next kernel, of any test
                torch.zeros(1, device="cuda").add(1).cpu()


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`device: cuda` without a CUDA device is refused, and the message says what to write instead."""
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        DeviceFailure, match=r"^device: cuda was asked for, but .* sees no CUDA device; write auto or cpu$"
    ):
        open_device("cuda", classifier(), batch_sizes=SIZES, spec=SPEC, concurrent_batches=1)


class _Logarithm(nn.Module):
    """A model whose logits are NaN where a channel is darker than the mean that is subtracted."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logarithms of the channels' means as logits."""
        return pixels.mean((2, 3)).log()


def test_scores_are_nan_in_all_classes_of_an_image_or_in_none(kind: str) -> None:
    """If one score of an image is NaN, all are, because the batcher looks only at the best.

    Neighbours keep their scores.
    """
    model = DeviceModule(_Logarithm(), Classify((), 3), Normalise((0.25,) * 3, (1.0,) * 3), torch.float32)
    device = open_device(kind, model, batch_sizes=SIZES, spec=SPEC, concurrent_batches=1)
    device.warm_up()
    pixels = noise(4)
    pixels[1] = 0
    pixels[2, :, :, 0] = 0  # only one channel
    rows = collect(device.launch([pixels])).rows
    assert rows["scores"].isnan().tolist() == [[nan] * 3 for nan in (False, True, True, False)]
