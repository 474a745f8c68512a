"""A stand-in device that sleeps as long as a small GPU might compute, to measure the path before the device.

**A stand-in, not a measurement of any device.** 2 ms a batch and 0.1 ms an image, the same for every server compared;
the slow one takes 40 ms an image, so that one core can feed several. The class in its answer is derived from the
pixels, so that an answer to the wrong image is noticed.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from ray.serve import Application

from benchmarks.peers.variants import STAND_IN_BATCH_S, STAND_IN_IMAGE_S
from deployments.app import sized
from deployments.replica import Replica
from deployments.service_config import ServiceConfig
from pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.engine import Engine
    from pipeline.input_spec import InputSpec
    from pipeline.model.classify import Classify
    from pipeline.model.device import PendingBatch
    from pipeline.model.device_module import DeviceModule
    from pipeline.model.runtime import RuntimeChoice

SLOW_IMAGE_S: Final = 0.04
"""Seconds that the slow stand-in takes for an image: a replica answers 25 images/s."""


class StandIn:
    """A `pipeline.model.device.Device`. Like a GPU it works while the next batch is handed over.

    Args:
        batch_sizes: batch sizes, ascending.
        classes: number of classes in the answer for each image.
        batch_s: seconds of a batch, in addition to those of its images.
        image_s: seconds of an image.
    """

    concurrent_batches = 1
    ahead = 1
    pads = False

    def __init__(
        self,
        batch_sizes: Sequence[int],
        classes: int,
        batch_s: float = STAND_IN_BATCH_S,
        image_s: float = STAND_IN_IMAGE_S,
    ) -> None:
        import torch

        from pipeline.model.device import ComputedAs

        self.computed_as = ComputedAs("a stand-in that sleeps")
        self._batch_sizes, self._offsets = batch_sizes, np.arange(classes)
        self._scores = torch.full((batch_sizes[-1], classes), 1 / classes)
        self._batch_s, self._image_s, self._idle_at = batch_s, image_s, 0.0

    def page_lock(self, pixels: "Tensor") -> Callable[[], None]:  # noqa: ARG002
        """Do nothing: there is no device to copy to."""
        return lambda: None

    def warm_up(self) -> dict[int, float]:
        """Return the seconds that the device will sleep, by batch size."""
        return {size: self._batch_s + size * self._image_s for size in self._batch_sizes}

    def launch(self, pieces: Sequence["Tensor"]) -> "PendingBatch":
        """Read one pixel of each image; the batch is done later."""
        import torch

        from pipeline.model.device import BatchTimings, PendingBatch

        middles = np.concatenate([piece.numpy()[:, 112, 112].sum(1, dtype=np.int64) for piece in pieces])
        images = len(middles)
        takes_s = self._batch_s + images * self._image_s
        done_at = self._idle_at = max(time.perf_counter(), self._idle_at) + takes_s
        classes = torch.from_numpy((middles[:, None] + self._offsets) % 1000)

        def wait() -> BatchTimings:
            time.sleep(max(0.0, done_at - time.perf_counter()))
            return BatchTimings(0.0, takes_s)

        return PendingBatch(images, {"scores": self._scores[:images], "classes": classes}, wait)


def open_stand_in(
    device_kind: str,  # noqa: ARG001
    module: "DeviceModule",
    *,
    batch_sizes: Sequence[int],
    spec: "InputSpec",  # noqa: ARG001
    concurrent_batches: int,  # noqa: ARG001
    choice: "RuntimeChoice | None" = None,  # noqa: ARG001
    batch_s: float = STAND_IN_BATCH_S,
    image_s: float = STAND_IN_IMAGE_S,
) -> StandIn:
    """Open the stand-in, as a `pipeline.model.device_kind.OpenDevice`."""
    return StandIn(batch_sizes, cast("Classify", module.head).top_k, batch_s, image_s)


class StandInReplica(Replica):
    """The complete replica, with the stand-in as its device."""

    def _engine_of(self, config: PipelineConfig) -> "Engine":
        from pipeline.engine import Engine

        return Engine(config, opener=open_stand_in)


class SlowStandInReplica(Replica):
    """The complete replica, with the slow stand-in as its device."""

    def _engine_of(self, config: PipelineConfig) -> "Engine":
        from pipeline.engine import Engine

        return Engine(config, opener=partial(open_stand_in, batch_s=0.0, image_s=SLOW_IMAGE_S))


def build_app(config: ServiceConfig) -> Application:
    """Build the application that a benchmark's configuration names instead of `deployments.app:build_app`."""
    return sized(config, StandInReplica)


def build_slow_app(config: ServiceConfig) -> Application:
    """Build the same application with the slow stand-in."""
    return sized(config, SlowStandInReplica)
