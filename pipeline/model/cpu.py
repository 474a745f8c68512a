"""The model on the CPU: several concurrent batches, each computed in one thread."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from pipeline.input_spec import InputSpec
from pipeline.model.device import COMPUTED_BY_MODULES, BatchTimings, ComputedAs, PendingBatch
from pipeline.model.device_module import DeviceModule, dtype_name
from pipeline.model.known_speeds import Speeds
from pipeline.model.runtime import PreparedModel, RuntimeChoice, TracedSource
from pipeline.model.runtime_torch import as_prepared
from pipeline.model.runtimes import choose
from pipeline.pace import DevicePace, warm_seconds

_MAX_SLOWDOWN_PER_IMAGE: Final = 1.25
"""Ratio of the times per image of a batch and of the best smaller one, above which larger ones are not tried."""

_MIN_TIME_SAVED_SHARE: Final = 0.05
"""Least share of the time per image that a larger batch must save to count as a gain."""

_MAX_SIZES_WITHOUT_GAIN: Final = 2
"""Batch sizes in a row without a gain after which larger ones are not tried: each takes a part of the start."""

_CALLS_TO_WARM_UP: Final = 2
"""Calls after which a batch size is as quick as later: a TorchScript graph is optimised in the second."""


class CpuDevice:
    """The CPU: `launch` computes the batch before it returns. Batches are not padded: no kernel depends on the shape.

    Each concurrent batch is computed in one thread of the batcher. These threads do not wait for each other, while
    torch's own threads wait for each other at every kernel. (They spin meanwhile: beside busy decoders a forward pass
    went from 30 ms to 1,400 ms.)

    Args:
        module: the model.
        batch_sizes: the sizes to warm up.
        spec: input of the module for one image.
        concurrent_batches: number of batches computed at a time, each in a thread.
        choice: runtime and number format as configured; None for torch and the format that the module has.

    Attributes:
        computed_as: description of how the model is computed; as modules until the warm-up has prepared it.
    """

    ahead = 0
    pads = False

    def __init__(
        self,
        module: DeviceModule,
        batch_sizes: Sequence[int],
        spec: InputSpec,
        concurrent_batches: int,
        choice: RuntimeChoice | None = None,
    ) -> None:
        self._source, self._choice = TracedSource(module, spec), choice
        self._batch_sizes, self._spec, self.concurrent_batches = batch_sizes, spec, concurrent_batches
        self.computed_as = ComputedAs(COMPUTED_BY_MODULES, dtype=dtype_name(module.dtype))
        self._prepared = PreparedModel(module, module, self.computed_as)

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - there is no copy to speed up
        """Do nothing; the CPU reads the pixels directly."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Choose the runtime, limit torch to one thread, here and in later threads, and time batches.

        Raises:
            InvalidModel: the configured runtime cannot compute the model, or the head does not fit it.
        """
        torch.set_num_threads(1)
        source, threads, choice = self._source, self.concurrent_batches, self._choice
        known = choice.known.read() if choice and choice.known else None
        earlier = known.computed_as if known else None
        self._prepared = choose(source, choice, threads, earlier) if choice else as_prepared(source)
        self.computed_as = self._prepared.computed_as
        del self._source  # and with it the model in float32, if it is served in another format
        if known and earlier == self.computed_as:
            seconds = self._as_measured(known.batch_s)
        else:
            seconds = self._measured()
            if choice and choice.known:
                choice.known.write(Speeds(self.computed_as, seconds))
        self._prepared.keep_up_to(DevicePace(seconds).efficient_batch_size)
        return seconds

    def _as_measured(self, seconds: Mapping[int, float]) -> dict[int, float]:
        """Warm up the batch sizes that will be used, of those that an earlier start has measured."""
        pixels = self._spec.zeros(self._batch_sizes[-1])
        for size in sorted(seconds):
            if size <= DevicePace(seconds).efficient_batch_size:
                self._prepared.prepare_for(size)
                for _ in range(_CALLS_TO_WARM_UP):
                    self._infer(pixels[:size])
        return dict(seconds)

    def _measured(self) -> dict[int, float]:
        pixels = self._spec.zeros(self._batch_sizes[-1])
        seconds, best, without_gain = dict[int, float](), math.inf, 0
        for size in self._batch_sizes:
            self._prepared.prepare_for(size)
            seconds[size] = warm_seconds(partial(self._infer, pixels[:size]))
            image_s = seconds[size] / size
            without_gain = 0 if image_s < (1 - _MIN_TIME_SAVED_SHARE) * best else without_gain + 1
            if image_s > _MAX_SLOWDOWN_PER_IMAGE * best or without_gain == _MAX_SIZES_WITHOUT_GAIN:
                break
            best = min(best, image_s)
        return seconds

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Compute one batch."""
        began_at = time.perf_counter()
        pixels = pieces[0] if len(pieces) == 1 else torch.cat([*pieces])
        joined_at = time.perf_counter()
        rows = self._infer(pixels)
        timings = BatchTimings(joined_at - began_at, time.perf_counter() - joined_at)
        return PendingBatch(len(pixels), self._prepared.module.named(rows), wait=lambda: timings)

    def _infer(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return self._prepared.compute(pixels)
