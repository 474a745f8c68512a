"""A device that computes nothing: with it, the pipeline is as fast as its workers decode."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from pipeline.input_spec import InputSpec
from pipeline.model.classify import Classify
from pipeline.model.device import BatchTimings, ComputedAs, PendingBatch
from pipeline.model.device_module import DeviceModule
from pipeline.model.multilabel import Multilabel
from pipeline.model.runtime import RuntimeChoice

_BATCH_S: Final = 1e-6


class NullDevice:
    """A `pipeline.model.device.Device` for which every image is of class 0, or with another head a black image.

    Args:
        module: the model; only its head matters to a classifier.
        spec: shape and number format of the inputs.
        largest_batch: images.
    """

    concurrent_batches = 1
    ahead = 0
    pads = False
    computed_as = ComputedAs("nothing")

    def __init__(self, module: DeviceModule, spec: InputSpec, largest_batch: int) -> None:
        self._largest_batch = largest_batch
        if isinstance(module.head, Classify | Multilabel):
            rows = {"scores": torch.ones(1, 1), "classes": torch.zeros(1, 1, dtype=torch.int64)}
        else:
            with torch.inference_mode():
                rows = {**module.named(module(spec.zeros(1)))}
        self._rows = {name: row.repeat_interleave(largest_batch, dim=0) for name, row in rows.items()}

    def page_lock(self, pixels: Tensor) -> Callable[[], None]:  # noqa: ARG002
        """Do nothing: there is no copy to speed up."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Give the same time for small and large batches, so that large ones are best."""
        return {1: _BATCH_S, self._largest_batch: _BATCH_S}

    def launch(self, pieces: Sequence[Tensor]) -> PendingBatch:
        """Return a batch that is done at once."""
        images = sum(map(len, pieces))
        rows = {name: row[:images] for name, row in self._rows.items()}
        return PendingBatch(images, rows, lambda: BatchTimings(0.0, 0.0))


def open_null_device(
    device_kind: str,  # noqa: ARG001
    module: DeviceModule,
    *,
    batch_sizes: Sequence[int],
    spec: InputSpec,
    concurrent_batches: int,  # noqa: ARG001
    choice: RuntimeChoice | None = None,  # noqa: ARG001
) -> NullDevice:
    """Open the null device, as a `pipeline.model.device_kind.OpenDevice`."""
    return NullDevice(module, spec, batch_sizes[-1])
