"""The model on the CPU: several concurrent batches, each computed in one thread."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

import torch
from torch import Tensor

from pipeline.input_spec import InputSpec
from pipeline.model.device import COMPUTED_BY_MODULES, BatchTimings, PendingBatch
from pipeline.model.device_module import DeviceModule
from pipeline.model.torchscript import Compute, as_graph
from pipeline.pace import warm_seconds

_MAX_SLOWDOWN_PER_IMAGE: Final = 1.25
"""Ratio of the times per image of a batch and of the best smaller one, above which larger ones are not tried."""


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
    """

    ahead = 0
    pads = False

    def __init__(
        self, module: DeviceModule, batch_sizes: Sequence[int], spec: InputSpec, concurrent_batches: int
    ) -> None:
        self._module, self._compute = module, cast(Compute, module)
        self._batch_sizes, self._spec, self.concurrent_batches = batch_sizes, spec, concurrent_batches
        self.computed_as = COMPUTED_BY_MODULES

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002 - there is no copy to speed up
        """Do nothing; the CPU reads the pixels directly."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Turn the model into a graph, limit torch to one thread, here and in later threads, and time batches."""
        torch.set_num_threads(1)
        self._compute = as_graph(self._module, self._spec)
        as_it_is = self._module.own_way or COMPUTED_BY_MODULES
        self.computed_as = as_it_is if self._compute is self._module else "a TorchScript graph"
        pixels = self._spec.zeros(self._batch_sizes[-1])
        seconds, best = dict[int, float](), math.inf
        for size in self._batch_sizes:
            seconds[size] = warm_seconds(partial(self._infer, pixels[:size]))
            if seconds[size] / size > _MAX_SLOWDOWN_PER_IMAGE * best:
                break
            best = min(best, seconds[size] / size)
        return seconds

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Compute one batch."""
        began_at = time.perf_counter()
        pixels = pieces[0] if len(pieces) == 1 else torch.cat([*pieces])
        joined_at = time.perf_counter()
        rows = self._infer(pixels)
        timings = BatchTimings(joined_at - began_at, time.perf_counter() - joined_at)
        return PendingBatch(len(pixels), self._module.named(rows), wait=lambda: timings)

    def _infer(self, pixels: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return self._compute(pixels)
