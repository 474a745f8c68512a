"""What computes: uint8 pixels in host memory -> the best classes, on the CPU or on CUDA.

Hazard on CUDA, where copies run on a stream of their own: a slot that is refilled, or a staging buffer that is
overwritten, while the device still reads it gives one image the answer of another. Guard: both are used again only
after `collect`, which waits for an event recorded behind the batch's last kernel; that kernel waits for the copy.
Test: `tests/test_device.py::test_nothing_is_read_before_it_has_been_copied`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Final, Protocol, cast

import torch
from torch import Tensor

from pipeline.errors import DeviceFailure
from pipeline.frozen import Compute, frozen
from pipeline.host_batch import HostBatch
from pipeline.model import Classifier

_WARM_UP_S: Final = 0.2
_HOPELESS: Final = 1.25
"""Where a batch takes so many times as long per image as a smaller one, larger ones are not tried on the CPU."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What the device took for a batch, without what the batch waited for."""

    copy_s: float  # pixels -> one piece of the device's memory
    model_s: float


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one batch; both lists have an entry an image, best class first."""

    scores: list[list[float]]
    classes: list[list[int]]
    spent: Spent


@dataclass(frozen=True, slots=True)
class Launched:
    """A batch on its way through the device."""

    images: int
    scores: Tensor  # float32 [padded, k] in host memory, to be read once the device is done
    classes: Tensor  # int64 [padded, k], likewise
    wait: Callable[[], Spent]  # until the device is done


class Device(Protocol):
    """What the feeder asks of a device. `launch`, and what it returns, is used by one thread a lane."""

    lanes: int  # batches that it computes at a time
    ahead: int  # batches that may wait in a lane behind the one in work

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:
        """Lets the device read `pixels` (host memory) directly; returns what undoes it."""

    def warm_up(self) -> dict[int, float]:
        """Runs the batch sizes, so that no request pays for the first time; returns the seconds of a batch of each.

        Those that are left out are larger than pays.
        """

    def launch(self, batches: Sequence[HostBatch]) -> Launched:
        """Starts one batch made of `batches`, in their order. Their memory is read until `collect` returns."""


class OpenDevice(Protocol):
    """What makes a device: `open_device` below, or a function for another kind."""

    def __call__(
        self, kind: str, classifier: Classifier, *, batch_sizes: Sequence[int], side_px: int, threads: int
    ) -> Device:
        """The device with the model on it."""


def collect(launched: Launched) -> Answers:
    """Waits for a batch and reads its answers."""
    spent = launched.wait()
    return Answers(launched.scores[: launched.images].tolist(), launched.classes[: launched.images].tolist(), spent)


def open_device(kind: str, classifier: Classifier, *, batch_sizes: Sequence[int], side_px: int, threads: int) -> Device:
    """The device of that kind, "cpu" or "cuda", with the model on it.

    Raises:
        DeviceFailure: there is none, or the model does not fit on it.
    """
    if kind == "cpu":
        return CpuDevice(classifier, batch_sizes, side_px, threads)
    if not torch.cuda.is_available():
        raise DeviceFailure("device: cuda was asked for, but this process sees no CUDA device; write auto or cpu")
    return CudaDevice(classifier, batch_sizes, side_px)


class CpuDevice:
    """The CPU: launching is computing. Batches are not padded, since no kernel is chosen by shape.

    A lane computes in one thread, the feeder's: batches side by side lose nothing to each other, while torch's own
    threads wait for each other at every kernel. (They spin while they do: beside busy decoders a forward pass went from
    30 ms to 1,400 ms.)

    Args:
        classifier: the model.
        batch_sizes: the sizes to warm.
        side_px: of the images.
        threads: lanes, so many of them.
    """

    ahead = 0

    def __init__(self, classifier: Classifier, batch_sizes: Sequence[int], side_px: int, threads: int) -> None:
        self._classifier, self._compute = classifier, cast(Compute, classifier)
        self._batch_sizes, self._side_px, self.lanes = batch_sizes, side_px, threads

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - there is no copy to speed up
        """Nothing to do."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Also makes the model a graph, and has torch use no threads of its own, here and in lanes that begin later."""
        torch.set_num_threads(1)
        self._compute = frozen(self._classifier, self._side_px)
        pixels = torch.zeros(self._batch_sizes[-1], self._side_px, self._side_px, 3, dtype=torch.uint8)
        seconds, best = dict[int, float](), math.inf
        for size in self._batch_sizes:
            seconds[size] = _warm_seconds(partial(self._infer, pixels[:size]))
            if seconds[size] / size > _HOPELESS * best:
                break
            best = min(best, seconds[size] / size)
        return seconds

    def launch(self, batches: Sequence[HostBatch]) -> Launched:
        """Computes."""
        began_at = time.perf_counter()
        pixels = batches[0].pixels if len(batches) == 1 else torch.cat([batch.pixels for batch in batches])
        joined_at = time.perf_counter()
        scores, classes = self._infer(pixels)
        spent = Spent(joined_at - began_at, time.perf_counter() - joined_at)
        return Launched(len(pixels), scores, classes, wait=lambda: spent)

    def _infer(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return self._compute(pixels)


class CudaDevice:
    """The current CUDA device: copies on one stream, the model on another.

    Args:
        classifier: the model; moved there.
        batch_sizes: rising. Every batch is padded to one of them: cudnn.benchmark searches anew for each shape.
        side_px: of the images.
    """

    lanes = 1
    ahead = 1

    def __init__(self, classifier: Classifier, batch_sizes: Sequence[int], side_px: int) -> None:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False  # float32 is what it says; `dtype` has quicker ones
        self._classifier, self._batch_sizes = classifier.cuda(), batch_sizes
        self._copies, self._kernels = torch.cuda.Stream(), torch.cuda.Stream()
        shape = (batch_sizes[-1], side_px, side_px, 3)
        staging = [torch.zeros(shape, dtype=torch.uint8, device="cuda") for _ in range(1 + self.ahead)]
        self._staging = cycle(staging)
        torch.cuda.synchronize()  # the zeros were written on another stream

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:
        """Registers the memory with CUDA where it lies (cudaHostRegister)."""
        runtime, address = torch.cuda.cudart(), pixels.data_ptr()
        code = int(runtime.cudaHostRegister(address, pixels.nbytes, 0))
        if code:
            raise DeviceFailure(f"cudaHostRegister of {pixels.nbytes} bytes failed with code {code}: is memory locked?")
        return lambda: runtime.cudaHostUnregister(address)

    def warm_up(self) -> dict[int, float]:
        """The first run of a size is cudnn's search; the allocator settles in the second."""
        pixels = torch.zeros_like(next(self._staging), device="cpu")
        return {size: _warm_seconds(partial(self._computed, pixels[:size])) for size in self._batch_sizes}

    def _computed(self, pixels: Tensor) -> Answers:
        return collect(self.launch([HostBatch(0, pixels)]))

    def launch(self, batches: Sequence[HostBatch]) -> Launched:
        """Queues copies and kernels, and returns before they have run."""
        staging, images = next(self._staging), 0
        copying, copied, computing, done = (torch.cuda.Event(enable_timing=True) for _ in range(4))
        with torch.cuda.stream(self._copies):
            copying.record()
            for batch in batches:
                staging[images : images + len(batch)].copy_(batch.pixels, non_blocking=True)
                images += len(batch)
            copied.record()
        self._kernels.wait_stream(self._copies)
        with torch.cuda.stream(self._kernels), torch.inference_mode():
            computing.record()  # reached when the copy is there and the batch before has left
            scores, classes = (_to_host(best) for best in self._classifier(staging[: self._padded(images)]))
            done.record()

        def wait() -> Spent:
            done.synchronize()
            return Spent(1e-3 * copying.elapsed_time(copied), 1e-3 * computing.elapsed_time(done))

        return Launched(images, scores, classes, wait)

    def _padded(self, images: int) -> int:
        return next(size for size in self._batch_sizes if size >= images)


def _warm_seconds(compute: Callable[[], object]) -> float:
    """Seconds of a call that is not the first: the least of three, of one where they are long."""
    compute()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < _WARM_UP_S:
        started_at = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - started_at)
    return min(seconds)


def _to_host(tensor: Tensor) -> Tensor:
    """Starts the copy into page-locked memory, which alone lets it run behind the kernels."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
