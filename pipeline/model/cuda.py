"""The model on a CUDA device: copies on one stream, and a CUDA graph for each batch size on another.

Hazard: copies and kernels run later than they are launched. A slot that is refilled while the device still copies from
it, or a staging buffer that is overwritten while a kernel still reads it, gives one image the answer of another.
Guards: slots are used again only after `collect`, which waits for an event behind the batch's last kernel. A staging
buffer has an event behind the last kernel that reads it, recorded also if a launch raises, and the next copy into it
waits for that event on the device.
Tests: `tests/pipeline/model/test_device.py::test_nothing_is_read_before_it_has_been_copied`,
`tests/pipeline/model/test_cuda_faults.py::test_a_launch_that_fails_changes_no_answer_of_the_batch_before_it`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Final

import torch
from torch import Tensor

from pipeline.errors import DeviceFailure, InvalidModel, first_line
from pipeline.input_spec import InputSpec
from pipeline.model.agreement import MAX_SCORE_DIFFERENCE, difference, noise
from pipeline.model.compiler import compiled_for_cuda, end_compiler_processes
from pipeline.model.cuda_graph import Replay, recorded, settle
from pipeline.model.device import COMPUTED_BY_MODULES, BatchOutput, BatchTimings, ComputedAs, PendingBatch, collect
from pipeline.model.device_module import DeviceModule, dtype_name
from pipeline.model.folding import folded
from pipeline.model.torchscript import Compute, reads_values, traced
from pipeline.pace import warm_seconds

logger = logging.LoggerAdapter(logging.getLogger(__name__), {"stage": "start"})

_STAGING_BUFFERS: Final = 3
"""Number of staging buffers: one in work, one being filled behind it, one for a batch that is retried or next."""


@dataclass(slots=True)
class Staging:
    """A buffer in the device's memory in which a batch is assembled.

    Attributes:
        pixels: [largest batch, *shape], as they lie in the slots.
        read: event behind the last kernel that reads the pixels.
        compute: functions that compute the first images of the buffer, by batch size.
    """

    pixels: Tensor
    read: torch.cuda.Event = field(default_factory=lambda: torch.cuda.Event())
    compute: dict[int, Replay] = field(default_factory=dict)


class CudaDevice:
    """The current CUDA device.

    Args:
        module: the model; it is moved to the device.
        batch_sizes: ascending. Every batch is padded to one of them, as kernels and graphs depend on the shape.
        spec: input of the module for one image.
        compiles: whether torch's compiler makes the kernels.

    Attributes:
        computed_as: description of how the model is computed; as modules until the warm-up has found a quicker way.

    Raises:
        DeviceFailure: this process sees no CUDA device.
    """

    concurrent_batches = 1
    ahead = 1
    pads = True

    def __init__(
        self, module: DeviceModule, batch_sizes: Sequence[int], spec: InputSpec, *, compiles: bool = False
    ) -> None:
        if not torch.cuda.is_available():
            raise DeviceFailure("device: cuda was asked for, but this process sees no CUDA device; write auto or cpu")
        # Kernels found by timing are 1.07 to 1.14 times as quick as cuDNN's choice in float32, and 0.88 to 1.02 times
        # in half precision. Trying 3 for each convolution finds nearly the same as torch's usual 10, sooner
        # (`python -m benchmarks.gpu --only search`).
        torch.backends.cudnn.benchmark = module.dtype is torch.float32
        torch.backends.cudnn.benchmark_limit = 3
        torch.backends.cudnn.allow_tf32 = False  # float32 means full precision; `dtype` offers quicker formats
        self._module, self._batch_sizes, self._spec = module.eval().cuda(), batch_sizes, spec
        self._compiles = compiles
        self._copies, self._kernels = torch.cuda.Stream(), torch.cuda.Stream()
        self._buffers = [Staging(spec.zeros(batch_sizes[-1], "cuda")) for _ in range(_STAGING_BUFFERS)]
        self._next_buffer = cycle(self._buffers)
        self._compute_by(self._module)
        torch.cuda.synchronize()  # the zeros were written on another stream

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:
        """Register memory with CUDA in place (cudaHostRegister); return a function that undoes this.

        Raises:
            DeviceFailure: CUDA refuses; the message has its error code.
        """
        runtime, address = torch.cuda.cudart(), pixels.data_ptr()
        code = int(runtime.cudaHostRegister(address, pixels.nbytes, 0))
        if code:
            raise DeviceFailure(f"cudaHostRegister of {pixels.nbytes} bytes failed with code {code}: is memory locked?")
        return lambda: runtime.cudaHostUnregister(address)

    # ---- warm-up ----------------------------------------------------------------------------------------------------

    def warm_up(self) -> dict[int, float]:
        """Record the graphs and measure every batch size as it is served; return the seconds of a batch by its size.

        To be called by the thread that launches, as cuDNN caches its search per thread.
        """
        self._choose_way()
        pixels = self._spec.zeros(self._batch_sizes[-1]).pin_memory()
        return {size: warm_seconds(partial(self._computed, pixels[:size])) for size in self._batch_sizes}

    def _computed(self, pixels: Tensor) -> BatchOutput:
        return collect(self.launch([pixels]))

    def _choose_way(self) -> None:
        """Choose the first way to compute the model that works and whose scores agree with the model's own.

        Raises:
            InvalidModel: torch's compiler is to make the kernels, and cannot; or the head does not fit the module.
        """
        for way, prepare in self._ways():
            try:
                prepare()
                worst = self._worst_difference()
            except InvalidModel:
                raise
            except Exception as error:  # noqa: BLE001 - tracing and recording a model may raise anything
                self._pass_over(way, first_line(error))
                continue
            if worst <= MAX_SCORE_DIFFERENCE[self._module.dtype]:
                logger.info("the model is computed as %s; its scores differ by up to %.2g", way, worst)
                self._describe(way)
                break
            self._pass_over(way, f"its scores differ by up to {worst:.2g}")
        else:
            self._compute_by(self._module)
        if self._compiles:
            end_compiler_processes()
        torch.cuda.synchronize()  # kernels of a way that failed may still read the buffers
        torch.cuda.empty_cache()  # its memory may be needed by other replicas on the device

    def _pass_over(self, way: str, why: str) -> None:
        if self._compiles:
            raise InvalidModel(f"runtime: compile cannot compute this model: {why}; write runtime: auto")
        logger.warning("the model is not computed as %s: %s", way, why)

    def _ways(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield ways to compute the model, the quickest first, each with a function that prepares it.

        If all fail, the model is computed as modules. In half precision folding gains nothing, slows ResNet-50 down by
        a tenth from 128 images on, and changes scores more.
        """
        recording = "CUDA graphs"
        if self._module.own_way:
            if self._compiles:
                self._pass_over(recording, f"it comes from a file, and is computed as {self._module.own_way}")
            return
        if reads_values(self._module, noise(1, self._spec, seed=0).cuda()):
            self._pass_over(recording, "it decides by the values of its input")
            return
        if self._compiles:
            yield (
                "CUDA graphs of compiled kernels",
                lambda: self._record(compiled_for_cuda(self._module, self._buffers[0].pixels[:1])),
            )
        if self._module.dtype is torch.float32 and not self._module.is_saved:
            yield "CUDA graphs with batch norm folded", lambda: self._record(folded(self._module))
        yield recording, lambda: self._record(self._module)
        yield "a TorchScript graph", lambda: self._compute_by(traced(self._module, self._spec))

    def _record(self, compute: Compute) -> None:
        """Record a graph for every batch size and staging buffer; the largest first, as the others reuse its memory."""
        pool = torch.cuda.graph_pool_handle()
        with torch.cuda.stream(self._kernels), torch.inference_mode():
            for size in reversed(self._batch_sizes):
                settle(compute, self._buffers[0].pixels[:size])
                for buffer in self._buffers:
                    pixels = buffer.pixels[:size]
                    buffer.compute[size] = recorded(compute, pixels, stream=self._kernels, pool=pool)

    def _compute_by(self, compute: Compute) -> None:
        self._describe(self._module.own_way or COMPUTED_BY_MODULES)
        for buffer in self._buffers:
            buffer.compute = {size: partial(compute, buffer.pixels[:size]) for size in self._batch_sizes}

    def _describe(self, way: str) -> None:
        self.computed_as = ComputedAs(way, dtype=dtype_name(self._module.dtype))

    def _worst_difference(self) -> float:
        """Return the largest difference of served scores from the model's own, over all sizes and staging buffers."""
        differences = []
        with torch.cuda.stream(self._kernels), torch.inference_mode():
            for number, buffer in enumerate(self._buffers):
                buffer.pixels.copy_(noise(len(buffer.pixels), self._spec, seed=number))
                for size, compute in buffer.compute.items():
                    differences.append(difference(compute(), self._module(buffer.pixels[:size])))
        return float(torch.tensor(differences).max())  # NaN if one is NaN, which Python's max might miss

    # ---- serving ----------------------------------------------------------------------------------------------------

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Queue copies and kernels, and return before they have run."""
        buffer, images = next(self._next_buffer), sum(map(len, pieces))
        copying, copied, computing = (torch.cuda.Event(enable_timing=True) for _ in range(3))
        done = torch.cuda.Event(enable_timing=True, blocking=True)  # a waiting thread sleeps
        try:
            with torch.cuda.stream(self._copies):
                self._copies.wait_event(buffer.read)
                copying.record()
                places = buffer.pixels[:images].split([*map(len, pieces)])  # type: ignore[no-untyped-call]
                # One call for all pieces needs the interpreter only once.
                torch._foreach_copy_(places, [*pieces], non_blocking=True)
                copied.record()
            with torch.cuda.stream(self._kernels), torch.inference_mode():
                self._kernels.wait_event(copied)
                computing.record()  # reached when the copy is done and the batch before has been computed
                rows = tuple(_to_host(output[:images]) for output in buffer.compute[self._padded(images)]())
                done.record()
        finally:
            buffer.read.record(self._kernels)  # kernels queued before an error may still read

        def wait() -> BatchTimings:
            done.synchronize()
            return BatchTimings(1e-3 * copying.elapsed_time(copied), 1e-3 * computing.elapsed_time(done))

        return PendingBatch(images, self._module.named(rows), wait)

    def _padded(self, images: int) -> int:
        return next(size for size in self._batch_sizes if size >= images)


def _to_host(tensor: Tensor) -> Tensor:
    """Start a copy to page-locked memory; only such a copy runs asynchronously, behind the kernels."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
