"""Costs of the model: seconds of a batch by batch size and by the number of batches computed at a time."""

import collections
import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch

from pipeline.config import PipelineConfig
from pipeline.errors import InvalidModel
from pipeline.images.decode import decode_image
from pipeline.input_spec import InputSpec
from pipeline.model.callable_transform import CallableTransform, examples, tried
from pipeline.model.device import Device, collect
from pipeline.model.device_kind import loaded_dtype, open_device
from pipeline.model.device_module import DeviceModule, dtype_name
from pipeline.model.precision import quickest
from pipeline.model.recognition import on_fast_path
from pipeline.model.reference import COMPARED_IMAGES
from pipeline.model.resize_to_fit import Fit
from pipeline.model.runtime import RuntimeChoice
from pipeline.model.served import Preprocess
from pipeline.model.source import load_model
from tuning.clients import usual_bound_s
from tuning.fits import BatchCost, fit_batches

BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Batch sizes to measure, as far as they fit into memory and bound."""

MAX_BATCH_SPEEDUP: Final = 2.0
"""Greatest speed-up of an image in a large batch on a CPU; batches too slow for the bound even then are not tried."""

_DISTINCT_IMAGES: Final = 32
"""Images in the measured batches; larger batches repeat them."""


@dataclass(slots=True)
class ComputeCost:
    """Measured costs of batches."""

    batches: dict[tuple[int, int], list[float]] = field(
        default_factory=dict
    )  # seconds of each, by concurrent batches and images

    def seconds(self, concurrent_batches: int, images: int) -> float:
        """Median seconds of a batch by its images and the number of concurrent batches."""
        return statistics.median(self.batches[concurrent_batches, images])

    @property
    def concurrent_batches(self) -> list[int]:
        """Numbers of batches at a time that were measured."""
        return sorted({concurrent_batches for concurrent_batches, _ in self.batches})

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that were measured."""
        return sorted({images for _, images in self.batches})

    def fits(self) -> dict[int, BatchCost]:
        """Fitted costs of a batch, by concurrent batches."""
        return {
            concurrent_batches: fit_batches({size: self.seconds(concurrent_batches, size) for size in self.sizes})
            for concurrent_batches in self.concurrent_batches
        }

    def rate(self, concurrent_batches: int, images: int) -> float:
        """Images a second with a number of concurrent batches and a batch size."""
        return concurrent_batches * images / self.seconds(concurrent_batches, images)


class MeasuredModel:
    """The model on its device, loaded and warm.

    Args:
        config: settings of the pipeline, with a settled device.
        concurrent_batches: largest number of concurrent batches; 1 for a device that computes one at a time.
        images: encoded images that can be decoded.
        max_pixels: limit on the pixels of an image.
        bound_s: limit on the seconds of a batch; None without a bound.

    Attributes:
        own_transform: a transform that is the user's own function; None otherwise.

    Raises:
        InvalidModel, DeviceFailure: the model cannot be loaded.
    """

    def __init__(
        self,
        config: PipelineConfig,
        concurrent_batches: int,
        images: Sequence[bytes],
        max_pixels: int,
        bound_s: float | None,
    ) -> None:
        loaded = load_model(config)
        self.own_transform = None if isinstance(loaded.transform, Preprocess | Fit) else loaded.transform
        served = on_fast_path(loaded, config.decode)
        transform = tried(served.transform)
        self.cost = ComputeCost()
        if isinstance(transform, Fit):
            raise InvalidModel("this measures models whose images have one size; this model's images differ in size")
        self.spec = transform.input_spec
        pixels = _inputs(transform, config, images[:_DISTINCT_IMAGES], max_pixels)
        choice = RuntimeChoice(config.runtime, config.dtype, examples(transform, COMPARED_IMAGES))
        module = DeviceModule.of(served, loaded_dtype(config.device, choice))
        if config.device == "cuda" and config.dtype == "auto":  # compared in the largest batch that is configured
            module = quickest(module, choice.samples, config.largest_batch)
            choice = replace(choice, dtype=dtype_name(module.dtype))
        self._device, self.sizes = _opened(config, module, self.spec, concurrent_batches, bound_s, choice)
        self.dtype = self._device.computed_as.dtype
        self.concurrent_batches = range(1, self._device.concurrent_batches + 1)
        largest = self.sizes[-1]
        self._pixels = pixels.repeat(-(-largest // len(pixels)), *[1] * len(self.spec.shape))[:largest].contiguous()
        self._unlock = self._device.page_lock(self._pixels)

    def measure(self, concurrent_batches: int, images: int, for_s: float) -> None:
        """Measure a batch size with a number of concurrent batches; further calls add measurements."""
        self.cost.batches.setdefault((concurrent_batches, images), []).extend(
            self._side_by_side(concurrent_batches, images, for_s)
        )

    def _side_by_side(self, concurrent_batches: int, images: int, for_s: float) -> list[float]:
        batches, end_at = list[list[float]](), time.perf_counter() + for_s
        threads = [
            threading.Thread(target=lambda: batches.append(self._repeated(images, end_at)))
            for _ in range(concurrent_batches)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return list(itertools.chain(*batches))

    def speed(self, for_s: float) -> float:
        """Measure the present speed of the machine, relative to its speed when costs were measured.

        Uses the smallest batches, with all concurrent batches.
        """
        concurrent_batches, images = self.concurrent_batches[-1], self.sizes[0]
        batches = self._side_by_side(concurrent_batches, images, for_s)
        return self.cost.seconds(concurrent_batches, images) / statistics.median(batches)

    def close(self) -> None:
        """Free the page-locked memory."""
        self._unlock()

    def _repeated(self, images: int, end_at: float) -> list[float]:
        """Measure the seconds between batches after the first, with as many queued as the device takes."""
        batch = [self._pixels[:images]]
        launched = collections.deque(self._device.launch(batch) for _ in range(1 + self._device.ahead))
        collect(launched.popleft())
        seconds, turned_at = list[float](), time.perf_counter()
        while turned_at < end_at or not seconds:
            launched.append(self._device.launch(batch))
            collect(launched.popleft())
            now = time.perf_counter()
            seconds.append(now - turned_at)
            turned_at = now
        while launched:
            collect(launched.popleft())
        return seconds


def _inputs(
    transform: Preprocess | CallableTransform, config: PipelineConfig, images: Sequence[bytes], max_pixels: int
) -> torch.Tensor:
    """Decode the images to the model's input: [n, *shape]."""
    users_own = transform.in_this_process() if isinstance(transform, CallableTransform) else None
    steps = transform.in_workers(config)
    made = [decode_image(memoryview(data), steps, max_pixels, users_own=users_own).pixels for data in images]
    return torch.stack([torch.as_tensor(each if isinstance(each, torch.Tensor) else each.copy()) for each in made])


def _opened(
    config: PipelineConfig,
    module: DeviceModule,
    spec: InputSpec,
    concurrent_batches: int,
    bound_s: float | None,
    choice: RuntimeChoice,
) -> tuple[Device, list[int]]:
    """Open the device; return it with the batch sizes that fit into its memory and the bound."""

    def opened(sizes: Sequence[int]) -> tuple[Device, dict[int, float]]:
        device = open_device(
            config.device,
            module,
            batch_sizes=tuple(sizes),
            spec=spec,
            concurrent_batches=concurrent_batches,
            choice=choice,
        )
        return device, device.warm_up()

    sizes = list(BATCH_SIZES)
    if config.device == "cpu":
        device, seconds = opened(BATCH_SIZES[:1])
        choice = replace(choice, runtime=device.computed_as.runtime, dtype=device.computed_as.dtype)  # chosen once
        bound_s = bound_s or usual_bound_s(seconds[1])
        sizes = [size for size in BATCH_SIZES if size * seconds[1] <= MAX_BATCH_SPEEDUP * bound_s] or [BATCH_SIZES[0]]
    while True:
        try:
            device, seconds = opened(sizes)
            return device, sorted(seconds)
        except torch.OutOfMemoryError:
            if len(sizes) == 1:
                raise
            sizes.pop()
